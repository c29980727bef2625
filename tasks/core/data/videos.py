"""Finding the video that somebody calls by its name."""

import os
import re
from pathlib import Path

from tasks.core.data.manifest import index_path
from tasks.core.data.parsing import VIDEO_SUFFIXES
from tasks.core.errors import InputError


def video_names(path: str) -> list[str]:
    """What a video may be called in an annotation: its file's stem and, of a clip trimmed as Kinetics does (ID_000010_000020), the ID."""
    stem, suffix = os.path.splitext(os.path.basename(path.rstrip("/")))
    name = stem if suffix.lower() in VIDEO_SUFFIXES else stem + suffix
    trimmed = re.fullmatch(r"(.+)_\d{6}_\d{6}", name)
    return [name, trimmed[1]] if trimmed else [name]


class VideoFiles:
    """The videos of a folder (or of the manifest in it) by their names.

    Args:
        folder: as `index_path` reads it.
        trimmed: find a clip that was trimmed as Kinetics does by its ID, too: only for times that count from the beginning of the clip.
    """

    def __init__(self, folder: str | Path, trimmed: bool):
        self.folder = folder
        self._paths: dict[str, dict[str, None]] = {}
        for row in index_path(folder):
            for name in video_names(row.path)[: 2 if trimmed else 1]:
                self._paths.setdefault(name, {})[row.path] = None

    def find(self, *names: str) -> str | None:
        """The absolute path of the video with the first of these names that occurs; None where none does.

        Raises:
            InputError: two videos of the folder have it.
        """
        found = list(next((self._paths[name] for name in names if name in self._paths), ()))
        if len(found) > 1:
            raise InputError(
                f"two videos of {self.folder} could be '{names[-1]}': {found[0]} and {found[1]}", "keep one of them in the folder"
            )
        return found[0] if found else None
