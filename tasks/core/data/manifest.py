"""Lists of videos: CSV with a header, JSON Lines, VideoMAE-style lists, folders, single videos. Nothing here opens a video."""

import csv
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.parsing import ATTRIBUTE, IMAGE_SUFFIXES, VIDEO_SUFFIXES, parse
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing

MANIFEST_SUFFIXES = frozenset((".csv", ".tsv", ".txt", ".list", ".jsonl", ".ndjson"))
MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
_LARGE = 1 << 20  # bytes
_LONGEST_NAME = 255  # bytes, of every usual file system


def read_sources(sources: list[str], role: str | None = None, any_times: bool = False) -> Rows:
    """The rows of manifests, folders and videos, in order. No video is looked at: a missing one is skipped and counted when it is read.

    `PATH@SPLIT` keeps one split. Otherwise, where a source names splits, role `train` keeps its `train` rows and role `val` its `val`
    rows, else its `test` rows; role None keeps all. `any_times` keeps rows that end before they begin, for a check that reports them.

    Raises:
        UsageError: a manifest is malformed (file and line are named) or has no rows of the split.
        InputError: a source does not exist.
    """
    found = [(source, *_divide(source)) for source in sources]
    return Rows.joined([_of_split(index_path(path, any_times), source, split, role) for source, path, split in found])


def index_path(path: str | Path, any_times: bool = False) -> Rows:
    """The rows of one manifest, one video, one folder of pictures, or of every video below a folder.

    A folder that holds `manifest.csv` or `manifest.jsonl` stands for that manifest. In a folder tree the first level names the class
    (`ROOT/class/video.mp4`), or the split where it is called train, val or test (`ROOT/train/class/video.mp4`); videos directly in the
    folder have no label. A folder that holds pictures is a video.
    """
    path = Path(path)
    if os.path.isdir(path):
        for name in MANIFEST_NAMES:
            if (path / name).is_file():
                return read_manifest(path / name, any_times)
        return Rows.of(_walk(path))
    if not os.path.exists(path):
        too_long = max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME
        raise InputError(f"{path.name[:40]}...: the name is too long for a file" if too_long else f"{path}: no such file or folder")
    return read_manifest(path, any_times) if path.suffix.lower() in MANIFEST_SUFFIXES else Rows.of([Row(os.path.abspath(path))])


def read_manifest(file: str | Path, any_times: bool = False) -> Rows:
    """The rows of a manifest file; paths (of videos and of subtitles) are resolved against its folder.

    A large one is read once by a process, as long as it does not change.

    Raises:
        UsageError: lines that cannot be used, named with what is wrong, up to ten of them.
        InputError: the file cannot be read.
    """
    file = Path(file)
    try:
        state = os.stat(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if state.st_size < _LARGE:
        return _read(file, any_times)
    return _read_large(file, any_times, os.getcwd(), (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=4)
def _read_large(file: Path, any_times: bool, working: str, state: tuple[int, ...]) -> Rows:
    return _read(file, any_times)


def _read(file: Path, any_times: bool) -> Rows:
    folder = os.path.abspath(file.parent)
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = parse(file, lines, folder, any_times)
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not a text file in UTF-8", "manifests are CSV, JSON Lines or lists of 'path label'") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if not len(rows):
        empty = os.stat(file).st_size == 0
        raise InputError(
            f"{file}: {'an empty file' if empty else 'a list without videos'}", "write one with: vid data index VIDEOS -o FILE"
        )
    return rows


def write_manifest(rows: Iterable[Row], file: str | Path) -> None:
    """Write `.jsonl` as JSON Lines, anything else as CSV; paths below the manifest's folder become relative.

    The file appears whole, by temporary name and rename.
    """
    file = Path(file)
    rows = list(rows)
    folder = os.path.abspath(file.parent)
    extras = list(dict.fromkeys(name for row in rows for name in row.extra))
    records = (_record(row, folder) for row in rows)
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as out:
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            out.writelines(json.dumps({k: v for k, v in r.items() if v is not None}, ensure_ascii=False) + "\n" for r in records)
        else:
            used = [k for k in ATTRIBUTE if k == "path" or any(getattr(row, ATTRIBUTE[k]) is not None for row in rows)]
            table = csv.DictWriter(out, [*used, *extras], restval="", extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows({k: "" if v is None else v for k, v in r.items()} for r in records)


def label_names(rows: Iterable[Row]) -> list[str]:
    """The sorted class names that occur."""
    return Rows.of(rows).codes("label")[1]


def _record(row: Row, folder: str) -> dict[str, Any]:
    values = {name: getattr(row, attribute) for name, attribute in ATTRIBUTE.items()}
    for name in ("path", "subtitles"):
        if values[name] is not None:
            values[name] = values[name].removeprefix(folder.rstrip(os.sep) + os.sep)
    return {**values, **row.extra}


def _divide(source: str) -> tuple[str, str | None]:
    if os.path.exists(source) or "@" not in source:
        return source, None
    path, _, split = source.rpartition("@")
    return path, split


def _of_split(rows: Rows, source: str, split: str | None, role: str | None) -> Rows:
    codes, present = rows.codes("split")
    if split is not None:
        if split not in present:
            raise UsageError(f"{source}: no rows of split '{split}'", f"splits there: {', '.join(present) or 'none'}")
        return rows.at(codes == present.index(split))
    if role is None or not present:
        return rows
    for wanted in ("train",) if role == "train" else ("val", "test"):
        named = [number for number, name in enumerate(present) if _SPLITS.get(name.lower()) == wanted]
        if named:
            return rows.at(np.isin(codes, named))
    raise UsageError(f"{source}: no rows to use for '{role}'; its splits are {', '.join(present)}", f"choose one: {source}@{present[0]}")


def _walk(root: Path) -> list[Row]:
    top = os.path.abspath(root)
    rows = []
    for folder, folders, files in os.walk(top, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(folder, top).split(os.sep) if folder != top else []
        videos = sorted(name for name in files if not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES)
        rows.extend(_placed(os.path.join(folder, name), inside) for name in videos)
        if not videos and any(os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".") for name in files):
            rows.append(_placed(folder, inside[:-1]))
            folders.clear()
    if not rows:
        raise InputError(f"{root}: no videos in this folder")
    return rows


def _placed(path: str, above: list[str]) -> Row:
    split = _SPLITS.get(above[0].lower()) if above else None
    names = above[1:] if split else above
    return Row(path, names[0] if names else None, split=split)
