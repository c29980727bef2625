"""Lists of videos: CSV with a header, JSON Lines, VideoMAE-style lists, folders, single videos. Nothing here opens a video."""

import csv
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import InputError, UsageError
from tasks.core.video.reader import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from tasks.core.video.rows import CHUNK, Row, Rows, RowsBuilder

MANIFEST_SUFFIXES = frozenset((".csv", ".tsv", ".txt", ".list", ".jsonl", ".ndjson"))
MANIFEST_NAMES = ("manifest.csv", "manifest.jsonl")
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
_HEADER_WORDS = frozenset(("label", "labels", "split", "video", "video_path", "file", "filename", "start", "end"))
_KNOWN = ("path", "label", "start", "end", "split")
_LARGE = 1 << 20  # bytes
_TOLD = 10


def read_sources(sources: list[str], role: str | None = None) -> Rows:
    """The rows of manifests, folders and videos, in order. No video is looked at: a missing one is skipped and counted when it is read.

    `PATH@SPLIT` keeps one split. Otherwise, where a source names splits, role `train` keeps its `train` rows and role `val` its `val`
    rows, else its `test` rows; role None keeps all.

    Raises:
        UsageError: a manifest is malformed (file and line are named) or has no rows of the split.
        InputError: a source does not exist.
    """
    found = [(source, *_divide(source)) for source in sources]
    return Rows.joined([_of_split(index_path(path), source, split, role) for source, path, split in found])


def index_path(path: str | Path) -> Rows:
    """The rows of one manifest, one video, one folder of pictures, or of every video below a folder.

    A folder that holds `manifest.csv` or `manifest.jsonl` stands for that manifest. In a folder tree the first level names the class
    (`ROOT/class/video.mp4`), or the split where it is called train, val or test (`ROOT/train/class/video.mp4`); videos directly in the
    folder have no label. A folder that holds pictures is a video.
    """
    path = Path(path)
    if path.is_dir():
        for name in MANIFEST_NAMES:
            if (path / name).is_file():
                return read_manifest(path / name)
        return Rows.of(_walk(path))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    return read_manifest(path) if path.suffix.lower() in MANIFEST_SUFFIXES else Rows.of([Row(os.path.abspath(path))])


def read_manifest(file: str | Path) -> Rows:
    """The rows of a manifest file; paths are resolved against its folder.

    A large one is read once by a process, as long as it does not change.

    Raises:
        UsageError: lines that cannot be used, named with what is wrong, up to ten of them. InputError: the file cannot be read.
    """
    file = Path(file)
    try:
        state = os.stat(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if state.st_size < _LARGE:
        return _read(file)
    return _read_large(file, os.getcwd(), (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=4)
def _read_large(file: Path, working: str, state: tuple[int, ...]) -> Rows:
    return _read(file)


def _read(file: Path) -> Rows:
    folder = os.path.abspath(file.parent)
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() in (".jsonl", ".ndjson"):
                return Rows.of(_json_rows(_Problems(file), lines, folder))
            first = next((line for line in lines if line.strip()), "")
            lines.seek(0)
            delimiter = "\t" if "\t" in first else ","
            columns = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
            if "path" in columns:
                rows = _whole_table(lines, folder, delimiter)
                if rows is None:
                    lines.seek(0)
                    rows = Rows.of(_table_rows(_Problems(file), lines, folder, delimiter))
                return rows
            if _HEADER_WORDS.intersection(columns):
                raise UsageError(f"{file}, line 1: the header has no 'path' column", f"its columns: {', '.join(columns)}")
            hint = "lines are 'path label'; a CSV needs a header with a 'path' column"
            return Rows.of(_list_rows(_Problems(file, hint), lines, folder))
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not a text file in UTF-8", "manifests are CSV, JSON Lines or lists of 'path label'") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None


def write_manifest(rows: Iterable[Row], file: str | Path) -> None:
    """Write `.jsonl` as JSON Lines, anything else as CSV; paths below the manifest's folder become relative.

    The file appears whole, by temporary name and rename.
    """
    file = Path(file)
    rows = list(rows)
    folder = os.path.abspath(file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    extras = list(dict.fromkeys(name for row in rows for name in row.extra))
    records = (_record(row, folder) for row in rows)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            if file.suffix.lower() in (".jsonl", ".ndjson"):
                out.writelines(json.dumps({k: v for k, v in r.items() if v is not None}, ensure_ascii=False) + "\n" for r in records)
            else:
                used = [k for k in _KNOWN if k == "path" or any(getattr(row, _ATTRIBUTE[k]) is not None for row in rows)]
                table = csv.DictWriter(out, [*used, *extras], restval="", extrasaction="ignore", lineterminator="\n")
                table.writeheader()
                table.writerows({k: "" if v is None else v for k, v in r.items()} for r in records)
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def label_names(rows: Iterable[Row]) -> list[str]:
    """The sorted class names that occur."""
    return Rows.of(rows).codes("label")[1]


_ATTRIBUTE = {"path": "path", "label": "label", "start": "start_s", "end": "end_s", "split": "split"}


def _record(row: Row, folder: str) -> dict[str, Any]:
    path = row.path
    if path.startswith(folder + os.sep):
        path = path[len(folder) + 1 :]
    return {"path": path, "label": row.label, "start": row.start_s, "end": row.end_s, "split": row.split, **row.extra}


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


class _Problems:
    """Lines of a manifest that cannot be used, told together."""

    def __init__(self, file: Path, hint: str | None = None):
        self.file, self.hint, self.found = file, hint, []

    def add(self, line: int, error: Exception, last: bool = False) -> None:
        """Notes one; raises when there are many, or when nothing after it can be read."""
        self.found.append((line, error))
        if last or len(self.found) == _TOLD:
            self.end()

    def end(self) -> None:
        """Raises UsageError where lines were noted."""
        if len(self.found) == 1:
            raise UsageError(f"{self.file}, line {self.found[0][0]}: {self.found[0][1]}", self.hint)
        if self.found:
            told = "".join(f"\n  line {line}: {error}" for line, error in self.found)
            count = f"the first {_TOLD}" if len(self.found) == _TOLD else len(self.found)
            raise UsageError(f"{self.file}: {count} lines that cannot be used{told}", self.hint)


def _row(path: str, folder: str, label: str | None, start: Any, end: Any, split: str | None, extra: dict[str, str]) -> Row:
    if not path:
        raise ValueError("the path is empty")
    full = _resolved(path, folder)
    start_s, end_s = _seconds(start, "start"), _seconds(end, "end")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise ValueError(f"end {end_s:g} is not after start {start_s:g}")
    return Row(full, label or None, start_s, end_s, split or None, extra)


def _resolved(path: str, folder: str) -> str:
    if len(folder) > 1 and path[0] not in "/." and path[-1] != "/" and "/." not in path and "//" not in path:
        return f"{folder}/{path}"  # what normpath comes to, in a tenth of its time
    return path if os.path.isabs(path) else os.path.normpath(os.path.join(folder, path))


def _seconds(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"{name} is '{value}', expected seconds")
    return seconds


def _table_rows(problems: _Problems, lines: Iterable[str], folder: str, delimiter: str) -> Iterator[Row]:
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    filled = (values for values in table if values and values != [""])
    try:
        header = [name.strip() for name in next(filled)]
        places = {_canonical(name): i for i, name in enumerate(header)}
        if len(places) < len(header):
            problems.add(table.line_num, ValueError("a column name occurs twice"), last=True)
        at = [places.pop(name, None) for name in _KNOWN]
        extras = [(header[i], i) for i in places.values()]
        for values in filled:
            try:
                if len(values) != len(header):
                    raise ValueError(f"{len(values)} fields, the header has {len(header)}")
                path, label, start, end, split = (None if i is None else values[i].strip() for i in at)
                row = _row(path, folder, label, start, end, split, {name: values[i] for name, i in extras if values[i] != ""})
            except ValueError as error:
                problems.add(table.line_num, error)
                continue
            yield row
    except csv.Error as error:
        problems.add(table.line_num, error, last=True)
    problems.end()


def _whole_table(lines: Iterable[str], folder: str, delimiter: str) -> Rows | None:
    """The rows of a CSV, column by column, which takes half the time; None where `_table_rows` would find something wrong."""
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    filled = (values for values in table if values and values != [""])
    builder = RowsBuilder()
    try:
        header = [name.strip() for name in next(filled)]
        at = {_canonical(name): i for i, name in enumerate(header)}
        if len(at) < len(header):
            return None
        while chunk := list(islice(filled, CHUNK)):
            if any(len(values) != len(header) for values in chunk):
                return None
            columns = list(zip(*chunk, strict=True))
            known = {name: [value.strip() for value in columns[at[name]]] for name in _KNOWN if name in at}
            if "" in known["path"]:
                return None
            times = {_ATTRIBUTE[name]: _all_seconds(known[name]) for name in ("start", "end") if name in known}
            if len(times) == 2 and (times["end_s"] <= times["start_s"]).any():
                return None
            texts: dict[str, list[str | None]] = {
                f"extra {header[i]}": [v or None for v in columns[i]] for name, i in at.items() if name not in _KNOWN
            }
            texts |= {name: [value or None for value in known[name]] for name in ("label", "split") if name in known}
            texts["path"] = [_resolved(path, folder) for path in known["path"]]
            builder.add(len(chunk), texts, times)
    except (ValueError, csv.Error):
        return None
    return builder.built()


def _all_seconds(values: list[str]) -> np.ndarray:
    """(n,) float64, nan for an empty text; ValueError for one that says no time."""
    seconds = np.array([float(value) if value else math.nan for value in values])
    if np.count_nonzero(~np.isfinite(seconds)) != values.count(""):
        raise ValueError
    return seconds


def _canonical(name: str) -> str:
    lowered = name.lower()
    return {"start_s": "start", "end_s": "end"}.get(lowered, lowered if lowered in _KNOWN else name)


def _json_rows(problems: _Problems, lines: Iterable[str], folder: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("path"), str):
                raise ValueError("expected an object with a 'path'")
            record = {_canonical(k): v for k, v in record.items()}
            path, label, start, end, split = (record.pop(name, None) for name in _KNOWN)
            extra = {k: v if isinstance(v, str) else json.dumps(v) for k, v in record.items()}
            row = _row(path, folder, None if label is None else str(label), start, end, None if split is None else str(split), extra)
        except ValueError as error:
            problems.add(number, error)
            continue
        yield row
    problems.end()


def _list_rows(problems: _Problems, lines: Iterable[str], folder: str) -> Iterator[Row]:
    """`path label` or `path` or, for folders of pictures, `path n_frames label`, separated by blanks, tabs or commas."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            path, label = _path_and_label(text)
            row = _row(path, folder, label, None, None, None, {})
        except ValueError as error:
            problems.add(number, error)
            continue
        yield row
    problems.end()


def _path_and_label(text: str) -> tuple[str, str | None]:
    if os.path.splitext(text)[1].lower() in VIDEO_SUFFIXES:
        return text, None
    for separator in ("\t", ",", None):
        parts = [part.strip() for part in text.rsplit(separator, 1)]
        if len(parts) == 2 and (separator is None or separator in text):
            break
    else:
        raise ValueError(f"'{text}' is neither 'path label' nor a video")
    path, label = parts
    if os.path.splitext(path)[1].lower() not in VIDEO_SUFFIXES:
        counted = path.rsplit(separator, 1)
        if len(counted) == 2 and counted[1].strip().isdigit() and label.isdigit():
            path = counted[0].strip()
    return path, label


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
