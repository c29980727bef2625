"""The table of annotation formats, and the import of a file in one of them."""

import csv
import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.data.segments.activitynet import is_activitynet, is_thumos14, read_activitynet, read_thumos14
from tasks.core.data.segments.annotations import NOT_FOUND, Annotations, Choices
from tasks.core.data.segments.epic import LABELS, is_epic, read_epic
from tasks.core.data.segments.htm_align import is_htm_align, read_htm_align
from tasks.core.data.segments.oops import is_oops, read_oops
from tasks.core.data.videos import VideoFiles, video_names
from tasks.core.errors import InputError, UsageError
from tasks.core.strict_json import parse_json


class Format(NamedTuple):
    """How a format is known, and how it is read.

    Attributes:
        fits: of the content of a file, JSON or the rows of a table.
        read: (content, file, choices) -> annotations.
        labels: of which one may be chosen; empty where there is one.
        cuts: whether it cuts videos into clips.
    """

    fits: Callable[[Any], bool]
    read: Callable[[Any, str, Choices], Annotations]
    labels: tuple[str, ...] = ()
    cuts: bool = False


FORMATS = {  # the first that fits is what a file is
    "thumos14": Format(is_thumos14, read_thumos14),
    "activitynet": Format(is_activitynet, read_activitynet),
    "epic100": Format(is_epic, read_epic, tuple(LABELS)),
    "htm-align": Format(is_htm_align, read_htm_align),
    "oops": Format(is_oops, read_oops, cuts=True),
}


def recognise(content: Any) -> str | None:
    """The name of the format of a file's content; None where none fits."""
    return next((name for name, format in FORMATS.items() if format.fits(content)), None)


def read_segments(content: Any, where: str, format: str, choices: Choices) -> Annotations:
    """The segments of a file's content, counted.

    Args:
        content: as `load_content` gives it.
        where: the file, for errors.
        format: a name of FORMATS.
        choices: what the user says.

    Raises:
        InputError: the content is not in this format, or nothing of it can be used.
        UsageError: an unknown format, subset or label.
    """
    if format not in FORMATS:
        near = get_close_matches(format, FORMATS, 1)
        raise UsageError(f"unknown format '{format}'", f"did you mean '{near[0]}'?" if near else f"known: {', '.join(FORMATS)}")
    if choices.label is not None and choices.label not in FORMATS[format].labels:
        known = ", ".join(FORMATS[format].labels)
        raise UsageError(f"label '{choices.label}' is not one of format {format}", f"choose {known}" if known else "it has one label only")
    if (choices.window_s or choices.step_s) and not FORMATS[format].cuts:
        raise UsageError(f"format {format} has segments of its own: videos are not cut into clips", "leave --window and --step out")
    found = FORMATS[format].read(content, where, choices)
    found.note_overlaps()
    found.left_out, found.noted = +found.left_out, +found.noted  # without reasons that do not occur
    if not found.rows:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in found.left_out.items())
        raise InputError(f"{where}: no segment in it can be used", reasons or None)
    return found


def find_videos(found: Annotations, folder: str | Path) -> list[str]:
    """Gives every row the path of its video below `folder`, takes away the rows whose video is not there, and returns their names.

    A video is found by its name, or as ActivityNet calls the files (`v_` and the name).

    Raises:
        InputError: two videos of the folder could be meant.
    """
    files, paths = VideoFiles(folder, trimmed=False), {}
    for video in dict.fromkeys(row.path for row in found.rows):
        stem = video_names(video)[0]
        path = files.find(video, stem, f"v_{stem}")
        paths[video] = path if path is not None and os.path.exists(path) else None
    for row in found.rows:
        row.path = paths[row.path]
    there = [row for row in found.rows if row.path is not None]
    if len(there) < len(found.rows):
        found.left_out[NOT_FOUND] += len(found.rows) - len(there)
    found.rows = there
    return [video for video, path in paths.items() if path is None]


def load_content(path: str | Path) -> Any:
    """JSON, or the rows of a CSV with a header as a list of dicts; None for anything else, such as a pickle.

    Raises:
        InputError: the file cannot be read, or is damaged.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if data[:1] == b"\x80" or path.suffix.lower() in (".pkl", ".pickle"):
        return None
    if path.suffix.lower() == ".json" or data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return parse_json(data, str(path))
    return _table(data, path)


def _table(data: bytes, path: Path) -> list[dict[str, str]]:
    try:
        lines = data.decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError:
        raise InputError(f"{path}: neither JSON, nor a pickle, nor a table in UTF-8") from None
    rows, table = [], csv.DictReader(lines, strict=True)
    try:
        for row in table:
            if None in row or None in row.values():
                raise InputError(f"{path}, line {table.line_num}: not as many fields as the header has")
            rows.append(row)
    except csv.Error as error:
        raise InputError(f"{path}, line {table.line_num}: {error}") from None
    return rows
