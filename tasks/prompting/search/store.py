"""An index on disk: what made it, and for each share of the work one growing array of vectors and one list of the videos in it.

INDEX/index.json       model, its hashes, step and kind of the vectors
INDEX/K-of-N.vectors   (rows, dim) float16 or float32, unit vectors one after the other
INDEX/K-of-N.jsonl     a line for each video: where its rows are, when they are, what the file was
INDEX/K-of-N.words     a line for each video: its sentences
A line is written after the rows that it names, so that a process killed anywhere leaves an index that is whole. A later line about the same
video takes the place of an earlier one; rows without a line are dead.
"""

import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tasks.core.data.captions import Sentence
from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row
from tasks.core.errors import UsageError
from tasks.core.files import make_folder, write_json
from tasks.core.locks import hold
from tasks.core.reporter import Reporter

HEAD, ROWS, VIDEOS, WORDS = "index.json", ".vectors", ".jsonl", ".words"
VERSION = 1
Key = tuple[str, float | None, float | None]
"""Path and part of a video."""


def key_of(row: Row) -> Key:
    """By which a video, or a part of one, is known."""
    return row.path, row.start_s, row.end_s


@dataclass(frozen=True)
class Video:
    """A video in an index.

    Attributes:
        path: of the file.
        shown: as the person wrote it.
        start_s, end_s: the part of it, or None.
        part: name of the share that it is in.
        first, n: its rows there.
        grid: when they are; None without rows.
        until_s: end of what was seen, seconds; None: unknown.
        file: size in bytes and time of change in ns; None of a folder.
    """

    path: str
    shown: str
    start_s: float | None
    end_s: float | None
    part: str
    first: int
    n: int
    grid: Grid | None
    until_s: float | None
    file: tuple[int, int] | None
    written: float

    @property
    def key(self) -> Key:
        return self.path, self.start_s, self.end_s

    def line(self) -> dict[str, Any]:
        """As it is kept."""
        plain = {name: getattr(self, name) for name in ("path", "shown", "start_s", "end_s", "first", "n", "until_s", "file", "written")}
        return {**plain, "grid": self.grid and self.grid.facts()}

    @classmethod
    def read(cls, line: Mapping[str, Any], part: str) -> "Video":
        """From what `line` gave."""
        found = dict(line)
        grid, file = found.pop("grid"), found.pop("file")
        return cls(**found, part=part, grid=Grid(**grid) if grid else None, file=tuple(file) if file else None)


def file_of(path: str) -> tuple[int, int] | None:
    """Size and time of change by which a file is known again; None of a folder or where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return None if os.path.isdir(path) else (found.st_size, found.st_mtime_ns)


def read_head(folder: Path) -> dict[str, Any] | None:
    """index.json of an index; None where there is none. Raises UsageError where it is not one."""
    path = folder / HEAD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(found, dict) and found.get("version") == VERSION and isinstance(found.get("id"), str | None)
        made = found["model"] if known else None
        if not known or (made is not None and not (isinstance(made, dict) and type(found["dim"]) is int and found["dim"] > 0)):
            raise ValueError("it is not one of this version")
        if made is not None and found["dtype"] not in ("float16", "float32"):
            raise ValueError("its vectors are of an unknown type")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise UsageError(
            f"{path} describes no index: {str(error).splitlines()[0]:.120}", "make it again: vid index VIDEOS -o FOLDER"
        ) from None
    return found


def claim(folder: Path, head: Mapping[str, Any]) -> None:
    """Makes a folder an index of this model. Raises UsageError where it is one of another model, or holds something else."""
    found = read_head(folder)
    if found is None:
        if folder.is_dir() and any(not name.startswith(".") for name in os.listdir(folder)):
            raise UsageError(f"{folder} is not empty and is no index", "choose another --out")
        make_folder(folder)
    elif found["id"] == head["id"]:
        return
    elif found["id"] is not None:
        raise UsageError(f"{folder} is an index of {name_of(found)}; this is {name_of(head)}", "choose another --out, or remove this one")
    write_json(folder / HEAD, head)


def name_of(head: Mapping[str, Any]) -> str:
    """Model, hash and step in a few words."""
    made = head["model"]
    if made is None:
        return "words alone"
    step = f"every {head['hop_s']:g} s" if head["hop_s"] else "clip by clip"
    return f"{made['reference']} ({made['picture_hash']}), {step}, {head['dtype']}"


class Index:
    """An index as it is now.

    Args:
        folder: of the index.

    Attributes:
        folder: as given.
        head: index.json.
        videos: those that count, in the order of their shares and rows.

    Raises:
        UsageError: there is none, or it is damaged.
    """

    def __init__(self, folder: Path):
        head = read_head(folder)
        if head is None:
            raise UsageError(f"{folder} is no index", "make one: vid index VIDEOS --model MODEL -o FOLDER")
        self.folder, self.head = folder, head
        newest: dict[Key, Video] = {}
        for name in part_names(folder):
            for video in read_videos(folder, name, self.row_bytes)[0]:
                before = newest.get(video.key)
                if before is None or before.written <= video.written:
                    newest[video.key] = video
        self.videos = sorted(newest.values(), key=lambda video: (video.part, video.first, video.path))

    @property
    def row_bytes(self) -> int:
        """Bytes of a vector; 0 in an index of words alone."""
        return row_bytes(self.head)

    def vectors(self, part: str) -> np.ndarray:
        """(rows, dim) of a share, a view of its file."""
        file = self.folder / f"{part}{ROWS}"
        rows = file.stat().st_size // self.row_bytes if file.exists() else 0
        if not rows:
            return np.zeros((0, self.head["dim"]), self.head["dtype"])
        return np.memmap(file, self.head["dtype"], "r", shape=(rows, self.head["dim"]))

    def sentences(self, paths: Collection[str] | None = None) -> dict[Key, list[Sentence]]:
        """What is said in the videos that count, or was written about them; those without are left out.

        Args:
            paths: of these videos only, which takes less time; None: of all.
        """
        found: dict[Key, tuple[float, list[Sentence]]] = {}
        for name in part_names(self.folder):
            for key, line in read_words(self.folder, name, paths):
                if key not in found or found[key][0] <= line["written"]:
                    said = [Sentence(a, math.inf if b is None else b, text) for a, b, text in line["sentences"]]
                    found[key] = line["written"], said
        known = {video.key for video in self.videos}
        return {key: said for key, (_, said) in found.items() if key in known and said}


def row_bytes(head: Mapping[str, Any]) -> int:
    """Bytes of a vector; 0 in an index of words alone."""
    return 0 if head["model"] is None else head["dim"] * np.dtype(head["dtype"]).itemsize


def part_names(folder: Path) -> list[str]:
    """The shares that have begun, sorted."""
    return sorted(entry.removesuffix(VIDEOS) for entry in os.listdir(folder) if entry.endswith(VIDEOS))


def read_videos(folder: Path, part: str, width: int) -> tuple[list[Video], int]:
    """The videos of a share whose rows are there, and the end of its last whole line in bytes.

    Args:
        folder: of the index.
        part: name of the share.
        width: bytes of a vector.
    """
    rows = folder / f"{part}{ROWS}"
    there = rows.stat().st_size if rows.exists() else 0
    found, end = [], 0
    for line, ends in _lines(folder / f"{part}{VIDEOS}"):
        end = ends
        try:
            video = Video.read(line, part)
            whole = (video.first + video.n) * width <= there and video.n >= 0 and (video.grid is not None or not video.n)
        except (TypeError, KeyError, ValueError, UsageError):
            whole = False
        if whole:
            found.append(video)
    return found, end


def read_words(folder: Path, part: str, paths: Collection[str] | None = None) -> Iterator[tuple[Key, dict[str, Any]]]:
    """(video, line) of what is said in the videos of a share.

    Args:
        folder: of the index.
        part: name of the share.
        paths: of these videos only; None: of all.
    """
    starts = None if paths is None else tuple(_line({"path": path})[:-2] + b"," for path in paths)
    for line, _ in _lines(folder / f"{part}{WORDS}", starts):
        if {"path", "start_s", "end_s", "sentences", "written", "digest"} <= line.keys():
            yield (line["path"], line["start_s"], line["end_s"]), line


def _lines(file: Path, starts: tuple[bytes, ...] | None = None) -> Iterator[tuple[dict[str, Any], int]]:
    """(object, where its line ends) of a file of JSON lines; the last is left out while it is being written.

    Args:
        file: missing is empty.
        starts: how the lines begin that count; None: all do.
    """
    end = 0
    if not file.exists():
        return
    with open(file, "rb") as opened:
        for line in opened:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            if starts is not None and not line.startswith(starts):
                continue
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found, end


class Part:
    """A share of an index that this process writes.

    Args:
        folder: of the index, which was claimed.
        name: of the share.
        head: index.json.
        reporter: told where the file system has no locks.

    Raises:
        UsageError: another process writes it.
    """

    def __init__(self, folder: Path, name: str, head: Mapping[str, Any], reporter: Reporter):
        self.folder, self.name, self.dtype, width = folder, name, head.get("dtype"), row_bytes(head)
        self._lock = hold(folder / f".{name}.lock", f"share {name} of {folder}", reporter)
        videos, end = read_videos(folder, name, width)
        self._rows = max((video.first + video.n for video in videos), default=0)
        self._videos = _open_at(folder / f"{name}{VIDEOS}", end)
        self._vectors = _open_at(folder / f"{name}{ROWS}", self._rows * width) if width else None
        last = max((end for _, end in _lines(folder / f"{name}{WORDS}")), default=0)
        self._words = _open_at(folder / f"{name}{WORDS}", last)

    def add(self, row: Row, shown: str, vectors: np.ndarray | None = None, grid: Grid | None = None, until_s: float | None = None) -> Video:
        """Writes the vectors of a video, (n, dim), then the line about it."""
        n = 0 if vectors is None else len(vectors)
        if n:
            self._vectors.write(np.ascontiguousarray(vectors, self.dtype).tobytes())
            self._vectors.flush()
        times = {"grid": grid, "until_s": until_s, "written": time.time()}
        video = Video(row.path, shown, row.start_s, row.end_s, self.name, self._rows, n, file=file_of(row.path), **times)
        _write(self._videos, video.line())
        self._rows += n
        return video

    def say(self, row: Row, sentences: list[Sentence], digest: str) -> None:
        """Writes what is said in a video."""
        said = [[s.start_s, None if math.isinf(s.end_s) else s.end_s, s.text] for s in sentences]
        place = {"path": row.path, "start_s": row.start_s, "end_s": row.end_s}
        _write(self._words, {**place, "digest": digest, "written": time.time(), "sentences": said})

    def close(self) -> None:
        """Gives the share free."""
        for file in (self._videos, self._vectors, self._words, self._lock):
            if file is not None:
                file.close()


def _open_at(path: Path, end: int) -> IO[bytes]:
    """A file to append to, from `end` on: what a killed process left behind it goes."""
    file = open(path, "ab")  # noqa: SIM115 - held until `close`
    file.truncate(end)
    return file


def _write(file: IO[bytes], line: Mapping[str, Any]) -> None:
    file.write(_line(line))
    file.flush()


def _line(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
