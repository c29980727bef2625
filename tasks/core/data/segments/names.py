"""Which video of an annotation a result is about."""

import os
from collections.abc import Iterable

from tasks.core.data.videos import video_names
from tasks.core.errors import InputError


class AnnotatedVideos:
    """The videos of an annotation by everything that their files may be called.

    Args:
        names: as the annotation has them: names, or paths of a manifest.
    """

    def __init__(self, names: Iterable[str]):
        self._exact = dict.fromkeys(names)
        self._stems: dict[str, set[str]] = {}
        for name in self._exact:
            self._stems.setdefault(_stem(name), set()).add(name)
        self._found: dict[str, str] = {}

    def find(self, name: str, where: str) -> str:
        """The video of the annotation that is called so, else the name as it stands.

        It is the same name or path; else the file's stem; either may begin with `v_`, as ActivityNet calls the files.

        Args:
            name: a name or a path.
            where: the file that it stands in, for errors.

        Raises:
            InputError: several videos may be meant.
        """
        if name in self._exact:
            return name
        if name not in self._found:
            if (path := os.path.abspath(name)) in self._exact:
                return path
            meant = self._stems.get(_stem(name), {name})
            if len(meant) > 1:
                raise InputError(f"{where}: '{name}' may be any of {', '.join(map(repr, sorted(meant)))}", "give the videos distinct names")
            self._found[name] = next(iter(meant))
        return self._found[name]


def _stem(name: str) -> str:
    return video_names(os.fspath(name))[0].removeprefix("v_")
