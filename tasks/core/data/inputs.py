"""What inference commands take: files, folders, globs, manifests, or paths on standard input; and a name for each one's outputs."""

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.core.data.manifest import MANIFEST_SUFFIXES, Row, read_sources
from tasks.core.errors import InputError


@dataclass(frozen=True)
class Input:
    """One video, or one part of one.

    Attributes:
        row: where it is.
        shown: the path as the user wrote it.
        name: what the names of its outputs begin with, unique among the inputs.
    """

    row: Row
    shown: str
    name: str


def gather(sources: Iterable[str], stdin: Iterable[str] = ()) -> list[Input]:
    """The videos that `sources` stand for, in order, each once.

    A source is a video, a folder, a manifest (`PATH@SPLIT` picks a split), a pattern such as `'day*/*.mp4'`, or `-` for one path per line
    of `stdin`. A single video that does not exist is kept: it fails alone when it is opened. Outputs are named after the file; where two
    files have the same name, both get a hash of their path, and parts of a video get their times.

    Raises:
        InputError: a folder without videos, a pattern that fits nothing, or no input at all.
        UsageError: a malformed manifest.
    """
    found: dict[tuple, tuple[Row, str]] = {}
    for source in sources:
        lines = [line.rstrip("\n") for line in stdin] if source == "-" else [source]
        for path in filter(None, lines):
            for row, shown in _rows(path):
                found.setdefault((row.path, row.start_s, row.end_s), (row, shown))
    if not found:
        raise InputError("no videos given")
    return named(found.values())


def named(rows: Iterable[tuple[Row, str]]) -> list[Input]:
    """Inputs from distinct rows, each with the path as it is shown; two whose files have the same name get a hash of their path."""
    pairs = list(rows)
    plain = Counter(_stem(row) for row, _ in pairs)
    return [Input(row, shown, _stem(row) if plain[_stem(row)] == 1 else _hashed(row)) for row, shown in pairs]


def _rows(path: str) -> list[tuple[Row, str]]:
    if not os.path.exists(path) and glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise InputError(f"{path}: nothing fits this pattern")
        return [pair for match in matches for pair in _rows(match)]
    is_list = os.path.splitext(path.rpartition("@")[0] or path)[1].lower() in MANIFEST_SUFFIXES
    if not os.path.exists(path) and not is_list and "@" not in path:
        return [(Row(os.path.abspath(path)), path)]
    rows = read_sources([path])
    if len(rows) == 1 and rows[0].path == os.path.abspath(path):
        return [(rows[0], path)]
    near = os.getcwd() + os.sep
    return [(row, row.path.removeprefix(near)) for row in rows]


def _stem(row: Row) -> str:
    name = os.path.basename(row.path)
    stem = name if os.path.isdir(row.path) else os.path.splitext(name)[0] or name
    if row.start_s is None and row.end_s is None:
        return stem
    end = "end" if row.end_s is None else f"{row.end_s:.10g}"
    return f"{stem}-{row.start_s or 0:.10g}-{end}"


def _hashed(row: Row) -> str:
    return f"{_stem(row)}-{path_hash(row.path)}"


def output_names(row: Row) -> tuple[str, str]:
    """The names that `gather` may give to what is made of a row: with a hash of its path, and the plain one."""
    return _hashed(row), _stem(row)


def path_hash(path: str | os.PathLike) -> str:
    """Eight hexadecimal digits that tell files of the same name apart."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:8]
