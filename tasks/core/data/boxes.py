"""Files of boxes: where something is in the frames of videos.

A CSV with the columns `video,frame,x1_px,y1_px,x2_px,y2_px` and, if there is one, `score`. Pixels belong to the video as it is stored, x2
and y2 lie just outside; frames are decode ordinals from 0; `video` is a path: absolute, from the folder of the file, or the last parts of
the real one (`train/01.mp4`).
"""

import csv
import math
from array import array
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from tasks.core import files
from tasks.core.errors import InputError, UsageError

COLUMNS = ("video", "frame", "x1_px", "y1_px", "x2_px", "y2_px")
_CORNERS = ("x1", "y1", "x2", "y2")


class BoxFile:
    """Reads a file of boxes.

    Args:
        file: the CSV.
        min_score: boxes with a lower score are left out; those without have 1.

    Raises:
        InputError: the file cannot be read, or a line is malformed: no frame number from 0, a corner that is not finite, an empty box.
        UsageError: a column is missing.
    """

    def __init__(self, file: str | Path, min_score: float = 0.0):
        self.file = Path(file)
        self._frames: dict[str, array] = {}
        self._corners: dict[str, array] = {}
        try:
            with open(self.file, newline="", encoding="utf-8-sig") as lines:
                table = csv.DictReader(lines)
                names = {name.removesuffix("_px"): name for name in table.fieldnames or ()}
                if missing := [c for c in ("video", "frame", *_CORNERS) if c not in names]:
                    raise UsageError(f"{file}: no column {', '.join(missing)}", f"{','.join(COLUMNS)}[,score]")
                for row in table:
                    frame, box, score = self._parsed(row, names, table.line_num)
                    frames = self._frames.setdefault(row["video"], array("q"))
                    corners = self._corners.setdefault(row["video"], array("d"))
                    if score >= min_score:
                        frames.append(frame)
                        corners.extend(box)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8 text'})") from None
        self._called: dict[str, list[str]] = {}  # last part of a path -> the names that end so
        for name in self._frames:
            self._called.setdefault(PurePath(name).name, []).append(name)

    def _parsed(self, row: Mapping[str, Any], names: Mapping[str, str], line: int) -> tuple[int, tuple[float, ...], float]:
        where = f"{self.file}, line {line}"
        try:
            frame, box = int(row[names["frame"]]), tuple(float(row[names[c]]) for c in _CORNERS)
            score = float(row["score"]) if row.get("score") else 1.0
        except (TypeError, ValueError):
            raise InputError(f"{where}: not a frame number and four numbers x1, y1, x2, y2") from None
        if frame < 0:
            raise InputError(f"{where}: frame {frame}; frames are counted from 0")
        if not all(map(math.isfinite, (*box, score))):
            raise InputError(f"{where}: a number that is not finite")
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InputError(f"{where}: an empty box, x1 < x2 and y1 < y2 is needed")
        return frame, box, score

    def find(self, path: str) -> dict[int, np.ndarray] | None:
        """frame -> `(n, 4)` float64 boxes of the video at an absolute `path`, n >= 1; None where the file does not name it.

        Raises:
            InputError: it is named in several ways.
        """
        parts = PurePath(path).parts
        names = self._called.get(PurePath(path).name, [])
        whole = [name for name in names if path == str((self.file.parent / name).absolute())]
        ends = [name for name in names if parts[-len(PurePath(name).parts) :] == PurePath(name).parts]
        found = whole or [name for name in ends if len(PurePath(name).parts) == max(len(PurePath(end).parts) for end in ends)]
        if len(found) > 1:
            raise InputError(f"{path}: {self.file} names it in several ways: {', '.join(found[:3])}")
        return self._of_name(found[0]) if found else None

    def of(self, path: str, size: tuple[int, int] | None = None) -> dict[int, np.ndarray]:
        """As `find`, of a video that must be there.

        Args:
            path: absolute.
            size: height and width of its frames, px: boxes are clipped to them.

        Raises:
            InputError: the file does not name the video, or names it in several ways; a box lies outside the frame.
        """
        if (found := self.find(path)) is None:
            near = get_close_matches(PurePath(path).name, self._called, 1, 0)
            known = f"; the nearest that it has is {self._called[near[0]][0]}" if near else ""
            raise InputError(f"{path}: no boxes of it in {self.file}{known}", "vid motion-boxes VIDEO -o boxes.csv finds where it moves")
        if size is None:
            return found
        return {frame: self._clipped(boxes, size, path, frame) for frame, boxes in found.items()}

    def _of_name(self, name: str) -> dict[int, np.ndarray]:
        if not self._frames[name]:
            return {}
        frames, corners = np.array(self._frames[name]), np.array(self._corners[name]).reshape(-1, 4)
        order = np.argsort(frames, kind="stable")
        numbers, starts = np.unique(frames[order], return_index=True)
        return dict(zip(numbers.tolist(), np.split(corners[order], starts[1:]), strict=True))

    def _clipped(self, boxes: np.ndarray, size: tuple[int, int], path: str, frame: int) -> np.ndarray:
        limit = np.array(size[::-1] * 2, dtype=np.float64)
        made = np.clip(boxes, 0, limit)
        if (made[:, 2:] <= made[:, :2]).any():
            box = " ".join(f"{corner:g}" for corner in boxes[(made[:, 2:] <= made[:, :2]).any(1)][0])
            raise InputError(
                f"{path}: in {self.file} the box {box} of frame {frame} lies outside its {size[1]}x{size[0]} px",
                "boxes are x1 y1 x2 y2 in px of the video as it is stored",
            )
        return made


def write_boxes(path: Path, videos: Iterable[tuple[str, int, np.ndarray]]) -> None:
    """Writes a file of boxes, one per frame; it appears whole or not at all.

    Args:
        path: the CSV.
        videos: (name, number of the first frame, `(T, 4)` boxes in px) of each.
    """
    with files.replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(COLUMNS)
        for video, first, boxes in videos:
            for frame, box in enumerate(boxes.tolist(), first):
                table.writerow([video, frame, *(f"{corner:.2f}" for corner in box)])
