"""From the lines of a manifest to rows: CSV with a header, JSON Lines, and lists of `path label`."""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tasks.core.data.rows import CHUNK, Row, Rows, RowsBuilder
from tasks.core.errors import UsageError

_VIDEO = "mp4 m4v mov mkv webm avi ts m2ts mts mpg mpeg vob flv wmv asf 3gp ogv mxf h264 hevc"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _VIDEO.split())
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"))
ATTRIBUTE = {
    "path": "path",
    "label": "label",
    "start": "start_s",
    "end": "end_s",
    "split": "split",
    "text": "text",
    "subtitles": "subtitles",
}
"""Column of a manifest: attribute of `Row`."""

_HEADER_WORDS = frozenset(("label", "labels", "split", "video", "video_path", "file", "filename", "start", "end"))
_TOLD = 10


def parse(file: Path, lines: TextIO, folder: str, any_times: bool = False) -> Rows:
    """The rows of an open manifest; its suffix and first line say what it is (columns are separated by commas, tabs or semicolons).

    Args:
        folder: absolute; what relative paths are below.
        any_times: keep rows that end before they begin, for a check that reports them.

    Raises:
        UsageError: lines that cannot be used, up to ten of them with what is wrong.
    """
    problems = _Problems(file, any_times)
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        return Rows.of(_json_rows(problems, lines, folder))
    first = next((line for line in lines if line.strip()), "")
    lines.seek(0)
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    columns = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if "path" in columns:
        rows = _whole_table(lines, folder, delimiter, any_times)
        if rows is None:
            lines.seek(0)
            rows = Rows.of(_table_rows(problems, lines, folder, delimiter))
        return rows
    if _HEADER_WORDS.intersection(columns):
        raise UsageError(f"{file}, line 1: the header has no 'path' column", f"its columns: {', '.join(columns)}")
    problems.hint = "lines are 'path label'; a CSV needs a header with a 'path' column"
    return Rows.of(_list_rows(problems, lines, folder))


class _Problems:
    """Lines of a manifest that cannot be used, told together."""

    def __init__(self, file: Path, any_times: bool = False):
        self.file, self.any_times, self.hint, self.found = file, any_times, None, []

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


def _row(values: dict[str, Any], extra: dict[str, str], folder: str, any_times: bool) -> Row:
    """A row from what a line says in the columns of ATTRIBUTE; ValueError for what cannot be used."""
    if not values.get("path"):
        raise ValueError("the path is empty")
    row = Row(_resolved(values["path"], folder), extra=extra)
    row.start_s, row.end_s = _seconds(values.get("start"), "start"), _seconds(values.get("end"), "end")
    if row.start_s is not None and row.end_s is not None and row.end_s <= row.start_s and not any_times:
        raise ValueError(f"end {row.end_s:g} is not after start {row.start_s:g}")
    row.label, row.split, row.text = (values.get(name) or None for name in ("label", "split", "text"))
    row.subtitles = _resolved(values["subtitles"], folder) if values.get("subtitles") else None
    return row


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
        at = {name: places.pop(name) for name in ATTRIBUTE if name in places}
        extras = [(header[i], i) for i in places.values()]
        for values in filled:
            try:
                if len(values) != len(header):
                    raise ValueError(f"{len(values)} fields, the header has {len(header)}")
                extra = {name: values[i] for name, i in extras if values[i] != ""}
                row = _row({name: values[i].strip() for name, i in at.items()}, extra, folder, problems.any_times)
            except ValueError as error:
                problems.add(table.line_num, error)
                continue
            yield row
    except csv.Error as error:
        problems.add(table.line_num, error, last=True)
    problems.end()


def _whole_table(lines: Iterable[str], folder: str, delimiter: str, any_times: bool = False) -> Rows | None:
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
            known = {name: [value.strip() for value in columns[at[name]]] for name in ATTRIBUTE if name in at}
            if "" in known["path"]:
                return None
            times = {ATTRIBUTE[name]: _all_seconds(known[name]) for name in ("start", "end") if name in known}
            if len(times) == 2 and not any_times and (times["end_s"] <= times["start_s"]).any():
                return None
            texts: dict[str, list[str | None]] = {
                f"extra {header[i]}": [v or None for v in columns[i]] for name, i in at.items() if name not in ATTRIBUTE
            }
            texts |= {name: [value or None for value in known[name]] for name in ("label", "split", "text") if name in known}
            texts["path"] = [_resolved(path, folder) for path in known["path"]]
            if "subtitles" in known:
                texts["subtitles"] = [_resolved(path, folder) if path else None for path in known["subtitles"]]
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
    return {"start_s": "start", "end_s": "end"}.get(lowered, lowered if lowered in ATTRIBUTE else name)


def _json_rows(problems: _Problems, lines: Iterable[str], folder: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("path"), str):
                raise ValueError("expected an object with a 'path'")
            record = {_canonical(k): v for k, v in record.items()}
            values = {name: record.pop(name) for name in ATTRIBUTE if name in record}
            values |= {name: str(values[name]) for name in ("label", "split") if values.get(name) is not None}
            values |= {name: _string(values[name], name) for name in ("text", "subtitles") if values.get(name) is not None}
            extra = {k: v if isinstance(v, str) else json.dumps(v) for k, v in record.items()}
            row = _row(values, extra, folder, problems.any_times)
        except ValueError as error:
            problems.add(number, error)
            continue
        yield row
    problems.end()


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {json.dumps(value)}, expected a string")
    return value.strip()


def _list_rows(problems: _Problems, lines: Iterable[str], folder: str) -> Iterator[Row]:
    """`path label` or `path` or, for folders of pictures, `path n_frames label`, separated by blanks, tabs or commas."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            path, label = _path_and_label(text)
            row = _row({"path": path, "label": label}, {}, folder, problems.any_times)
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
