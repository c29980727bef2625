"""Files that an inference command writes per input: their names, the record, and whether they were made before.

`NAME.<task>.json` is the record: what was found, by which method, with which settings. It is written last, and its key `done` says which
files were written with it, so that neither a file of another program nor a result of other settings is taken for one of these.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from tasks.core.data.inputs import Input
from tasks.core.errors import UsageError
from tasks.core.files import write_text

RECORD = "json"
"""The kind of file that every input gets."""
_DONE = "done"


class Producer(Protocol):
    """What makes results.

    Attributes:
        method: who made them.
        settings: with what they were made; JSON-able.
        suffixes: kind of file -> how its name ends, `.<task>.<ending>`; `json` among them.
    """

    method: str
    settings: Mapping[str, Any]
    suffixes: Mapping[str, str]


@dataclass(frozen=True)
class Output:
    """What is written of each input, and where.

    Attributes:
        folder: None: nothing is written.
        kinds: of the producer's suffixes, besides the record.
        overwrite: do again what is there.
    """

    folder: Path | None = None
    kinds: tuple[str, ...] = ()
    overwrite: bool = False

    def files(self, suffixes: Mapping[str, str], name: str) -> dict[str, Path]:
        """Kind -> file, the record first.

        Args:
            suffixes: see `Producer`.
            name: what the names begin with.

        Raises:
            UsageError: a kind that the producer does not know.
        """
        kinds = dict.fromkeys((RECORD, *self.kinds))
        check_kinds(kinds, suffixes)
        return {kind: self.folder / f"{name}{suffixes[kind]}" for kind in kinds}

    def done_before(self, producer: Producer, source: Input) -> dict[str, Any] | None:
        """The record of an input whose files are there: all that are wanted, as they were written with the record, by the same method
        with the same settings, from an input that has not changed.

        Returns:
            the record with `files` (paths) and `"skipped": True`; None where there is work to do.
        """
        if self.folder is None:
            return None
        files = self.files(producer.suffixes, source.name)
        record, known = self._known(producer, source, files[RECORD])
        if record is None or not all(kind == RECORD or file.name in known for kind, file in files.items()):
            return None
        return {**record, "files": [str(file) for file in files.values()], "skipped": True}

    def _known(self, producer: Producer, source: Input, file: Path) -> tuple[dict[str, Any] | None, dict[str, int]]:
        """The record in `file` and the files (name -> bytes) that are as they were written with it; (None, {}) where the record is
        missing, of another program, or made of another input or with other settings.
        """
        if self.overwrite:
            return None, {}
        try:
            record, made_at = json.loads(file.read_text(encoding="utf-8")), file.stat().st_mtime
            done = record.pop(_DONE)
            known = {name: size for name, size in done["files"].items() if _is_file(self.folder / name, size)}
            same_input = _unchanged(source.row.path, made_at, done["input_bytes"])
            made = record["method"], record["settings"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None, {}
        same = same_input and made == (producer.method, json.loads(json.dumps(producer.settings)))
        return (record, known) if same else (None, {})

    def write(self, producer: Producer, source: Input, record: Mapping[str, Any], write: Callable[[str, Path], None]) -> dict[str, Any]:
        """Writes the files of an input, the record last; each appears whole or not at all. Those of other kinds that were made before
        in the same way stay known.

        Args:
            producer: who made them.
            source: the input.
            record: what was found; JSON-able, with `method` and `settings` of the producer.
            write: writes one kind of file, other than the record, to a path.

        Returns:
            the record with `files`, the paths in the order of `files`.
        """
        if self.folder is None:
            return {**record, "files": []}
        files = self.files(producer.suffixes, source.name)
        _, known = self._known(producer, source, files[RECORD])
        for kind, file in files.items():
            if kind != RECORD:
                write(kind, file)
                known[file.name] = file.stat().st_size
        write_record(files[RECORD], {**record, _DONE: {"input_bytes": _bytes(source.row.path), "files": dict(sorted(known.items()))}})
        return {**record, "files": [str(file) for file in files.values()]}


def check_kinds(kinds: Iterable[str], suffixes: Mapping[str, str]) -> None:
    """UsageError where a kind is not one of `suffixes`; it names the nearest."""
    for kind in kinds:
        if kind not in suffixes:
            near = get_close_matches(kind, suffixes, 1)
            guess = f"did you mean '{near[0]}'? " if near else ""
            raise UsageError(f"cannot write '{kind}'", f"{guess}known: {', '.join(suffixes)}")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a JSON object, one line per key and per object of a list, so that a column of a hundred thousand numbers is one line."""
    lines = (f"  {_text(key)}: {_lines(value)}" for key, value in record.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(f"    {_text(item)}" for item in value) + "\n  ]"
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _bytes(path: str) -> int | None:
    """How long a file is; None for a folder of pictures, or where the input is gone."""
    return os.path.getsize(path) if os.path.isfile(path) else None


def _is_file(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _unchanged(path: str, since: float, size: int | None) -> bool:
    """Whether an input is as it was; one that is gone, or was when its results were made, is not held against them."""
    if not os.path.exists(path):
        return True
    return os.path.getmtime(path) <= since and size in (None, _bytes(path))
