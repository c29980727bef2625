"""Scores of frames as files: a CSV of anyone's, or what `vid detect-anomalies` wrote."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.anomalies.writers import SUFFIXES
from tasks.core.errors import InputError

_KNOWN_SHAPES = "a CSV with the columns video,frame,score, or what vid detect-anomalies writes"
_NO_PART = ("video", "t", "frame", "score", "label")


@dataclass(frozen=True)
class Predicted:
    """Scores of one video.

    Attributes:
        video: as it is named.
        frame: (N,) int64, increasing, from 0.
        score: (N,) float64.
        t: (N,) seconds; None: not known.
        parts: indicator -> (N,) float64.
        n_frames: of the whole video; None: not known.
    """

    video: str
    frame: np.ndarray
    score: np.ndarray
    t: np.ndarray | None = None
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    n_frames: int | None = None

    def length(self) -> int:
        """Frames of the video as far as they are known."""
        return self.n_frames or int(self.frame[-1]) + 1


def read_predictions(path: str | Path) -> list[Predicted]:
    """Every video in a file or folder, in its order.

    Args:
        path: a CSV with a header that has `video`, `frame`, `score`, perhaps `t` (s), and further columns of numbers, which are taken as
            indicators; a JSON file of one object of `vid detect-anomalies` or a list of them; JSON Lines of them; or a folder with such
            `*.anomalies.json` or `*.anomalies.csv` (where a video has both, the JSON file counts). Objects with `error` instead of scores
            are passed over.

    Raises:
        InputError: it cannot be read or used (names file and line); a video or a frame occurs twice.
    """
    path = Path(path)
    found: dict[str, Predicted] = {}
    for file in _files(path):
        for video in _csv(file) if file.suffix.lower() == ".csv" else _json(file):
            if video.video in found:
                raise InputError(f"{file}: scores of '{video.video}' a second time", "give the videos distinct names")
            found[video.video] = video
    if not found:
        raise InputError(f"{path}: no scores", f"expected: {_KNOWN_SHAPES}")
    return list(found.values())


def table(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a CSV with a header that has at least `columns`; InputError where it has not or cannot be read."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            header = [name.strip() for name in rows.fieldnames or ()]
            if missing := [name for name in columns if name not in header]:
                raise InputError(f"{file} has no column {', '.join(missing)}", f"its header must have {','.join(columns)}")
            rows.fieldnames = header
            for row in rows:
                yield rows.line_num, row
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: no CSV ({error})") from None


def number(text: Any, kind: type, where: str) -> Any:
    """A finite number of `kind` (int or float) from a cell; InputError that begins with `where`."""
    try:
        value = kind(text)
    except (TypeError, ValueError):
        value = None
    if value is None or not np.isfinite(value):
        raise InputError(f"{where}: '{text}' is not a {'whole' if kind is int else 'finite'} number")
    return value


def ordered(video: str, frame: Any, columns: Mapping[str, Any], where: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frame numbers and columns in the order of the frames; InputError where a frame is negative or occurs twice."""
    frame = np.asarray(frame, np.int64)
    order = np.argsort(frame, kind="stable")
    frame = frame[order]
    if len(frame) and frame[0] < 0:
        raise InputError(f"{where}: frame {frame[0]} of '{video}'", "frames are counted from 0")
    if len(twice := np.flatnonzero(np.diff(frame) == 0)):
        raise InputError(f"{where}: frame {frame[twice[0]]} of '{video}' occurs twice")
    return frame, {name: np.asarray(values)[order] for name, values in columns.items()}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found: dict[str, Path] = {}
    for kind in ("csv", "json"):  # the later one counts
        for file in sorted(path.rglob(f"*{SUFFIXES[kind]}")):
            found[str(file).removesuffix(SUFFIXES[kind])] = file
    if not found:
        raise InputError(f"{path}: no *{SUFFIXES['json']} and no *{SUFFIXES['csv']} in this folder")
    return [found[name] for name in sorted(found)]


def _csv(file: Path) -> Iterator[Predicted]:
    videos: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, row in table(file, ("video", "frame", "score")):
        videos.setdefault(row["video"], []).append((line, row))
    everything = [row for rows in videos.values() for _, row in rows]
    extra = [name for name in (everything[0] if everything else ()) if name not in _NO_PART and name is not None]
    parts = [name for name in extra if all(_is_number(row[name]) for row in everything)]
    timed = bool(everything) and all(_is_number(row.get("t")) for row in everything)
    for video, rows in videos.items():
        columns = {"score": [number(row["score"], float, f"{file}, line {line}") for line, row in rows]}
        columns |= {("part", name): [float(row[name]) for _, row in rows] for name in parts}
        columns |= {"t": [float(row["t"]) for _, row in rows]} if timed else {}
        frames = [number(row["frame"], int, f"{file}, line {line}") for line, row in rows]
        yield _made(video, frames, columns, parts, str(file))


def _json(file: Path) -> Iterator[Predicted]:
    for where, record in _objects(file):
        if not isinstance(record, Mapping) or not isinstance(record.get("video"), str):
            raise InputError(f"{where}: these are not scores", f"expected: {_KNOWN_SHAPES}")
        if "error" in record:
            continue
        frames = record.get("frames")
        if not isinstance(frames, Mapping) or not isinstance(frames.get("parts", {}), Mapping):
            raise InputError(f"{where}: '{record['video']}' has no scores of frames", "detect again, with --overwrite")
        parts = list(frames.get("parts", {}))
        columns = {"score": frames.get("score"), "t": frames.get("t"), **{("part", name): frames["parts"][name] for name in parts}}
        lengths = {len(v) if isinstance(v, list) else None for v in (frames.get("frame"), *columns.values())}
        if len(lengths) != 1 or None in lengths:
            raise InputError(f"{where}: the columns of '{record['video']}' have different lengths")
        columns = {name: [number(v, float, where) for v in values] for name, values in columns.items()}
        numbers = [number(v, int, where) for v in frames["frame"]]
        made = _made(record["video"], numbers, columns, parts, where, record.get("n_frames"))
        if len(made.frame):
            yield made


def _made(video: str, frames: list[int], columns: Mapping[Any, Any], parts: list[str], where: str, n_frames: Any = None) -> Predicted:
    frame, columns = ordered(video, frames, columns, where)
    made = {name: columns[("part", name)] for name in parts}
    return Predicted(video, frame, columns["score"], columns.get("t"), made, n_frames if isinstance(n_frames, int) else None)


def _objects(file: Path) -> Iterator[tuple[str, Any]]:
    """(where, object) of a JSON file or of JSON Lines."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or 'no text'}") from None
    try:
        content = json.loads(text)
    except ValueError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        for at, line in lines:
            try:
                yield f"{file}, line {at}", json.loads(line)
            except ValueError:
                raise InputError(f"{file}, line {at}: no JSON", f"expected: {_KNOWN_SHAPES}") from None
        return
    for record in content if isinstance(content, list) else [content]:
        yield str(file), record


def _is_number(text: Any) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except (TypeError, ValueError):
        return False
