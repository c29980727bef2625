"""`vid motion-boxes`: where things move in any number of videos, as records, files of boxes and pictures."""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.data.boxes import write_boxes
from tasks.core.data.inputs import Input
from tasks.core.flow.boxes import MotionBoxes
from tasks.core.flow.boxes_config import MotionBoxConfig
from tasks.core.inference.detector import Detector, Footage, detect_all
from tasks.core.inference.loop import Advance, still
from tasks.core.inference.output import RECORD, Output
from tasks.core.report.annotated import evened, picture_size, write_images
from tasks.core.report.outputs import readable
from tasks.core.reporter import Reporter

METHOD = "motion-boxes"
SUFFIXES = {RECORD: ".boxes.json", "csv": ".boxes.csv", "mp4": ".boxes.mp4"}
"""Kind of file -> how its name ends."""
_MOVING, _CARRIED = (255, 160, 0), (150, 150, 150)
_LINE_PX = 2


@dataclass(frozen=True)
class Found:
    """The motion boxes of one video or a part of it.

    Attributes:
        boxes: `(T, 4)` float32 x1, y1, x2, y2, px of the video.
        moving: `(T,)` bool: something moves in this frame; elsewhere its box comes from its neighbours or is the central half.
        first: number of the first frame.
        facts: of the video, see `Footage.facts`.
    """

    boxes: np.ndarray
    moving: np.ndarray
    first: int
    facts: dict[str, Any]


class MotionBoxDetector(Detector[Footage, np.ndarray, Found]):
    """`MotionBoxes` for every frame of videos.

    Args:
        config: how.
        device: where TV-L1 runs.
        decoder: see `open_video`.
    """

    method, suffixes = METHOD, SUFFIXES

    def __init__(self, config: MotionBoxConfig, device: torch.device, decoder: str = "auto"):
        self.finder, self.decoder = MotionBoxes(config, device), decoder
        self.settings = config.model_dump(mode="json")
        self.portable = self.finder.device.type == "cpu"

    def score(self, opened: Footage, advance: Advance = still) -> Iterator[np.ndarray]:
        if multiprocessing.parent_process() is not None:
            _one_thread()  # the other cores have videos of their own
        yield from self.finder.stream(opened.reader, opened.start, opened.stop, advance)

    def finish(self, opened: Footage, scores: Iterator[np.ndarray]) -> Found:
        found = np.concatenate(list(scores))
        boxes = self.finder.settle(found, opened.reader.height, opened.reader.width)
        return Found(boxes, np.isfinite(found).all(1), opened.start, opened.facts())

    def record(self, result: Found) -> dict[str, Any]:
        facts = dict(result.facts)
        return {
            "video": readable(facts.pop("path")),
            "method": self.method,
            "settings": self.settings,
            **facts,
            "moving_frames": int(result.moving.sum()),
            "first_frame": result.first,
            "boxes": np.round(result.boxes.astype(np.float64), 2).tolist(),
            "moving": result.moving.tolist(),
        }

    def write(self, kind: str, path: Path, result: Found, opened: Footage, advance: Advance = still) -> None:
        if kind == "csv":
            write_boxes(path, [(readable(result.facts["path"]), result.first, result.boxes)])
        else:
            pts = opened.reader.pts[opened.start : opened.stop]
            write_images(path, _drawn(result, opened, advance), pts, opened.first_s + opened.duration_s, opened.reader.fps)


def run(detector: MotionBoxDetector, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Finds the motion boxes of every input.

    Yields, in the order of the inputs:
        `video`, `method`, `settings`, `n_frames`, `fps`, `duration_s`, `start_s`, `width`, `height`, `damage`, `moving_frames`,
        `first_frame`, and for every frame from it on `boxes` (x1, y1, x2, y2 in px) and `moving`; `files`. `{"video", "error"}` for an
        input that cannot be read; a record with `"skipped": True` where its files were made before.
    """
    yield from detect_all(detector, inputs, output, workers, reporter, "finding motion boxes")


def collect(folder: Path, file: Path, detector: MotionBoxDetector) -> int:
    """Writes one file of boxes from all records in a folder that were made with the same settings; returns how many videos it has."""
    rows = []
    for path in sorted(folder.glob(f"*{SUFFIXES[RECORD]}")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if (record["method"], record["settings"]) == (detector.method, detector.settings):
                rows.append((record["video"], record["first_frame"], np.array(record["boxes"])))
        except (OSError, ValueError, LookupError, TypeError):
            continue  # of another program
    write_boxes(file, rows)
    return len({video for video, _, _ in rows})


def _drawn(result: Found, opened: Footage, advance: Advance) -> Iterator[np.ndarray]:
    """Frames with their box: orange where something moves, grey where the box was carried over."""
    reader = opened.reader
    short_side, height, width = picture_size(reader.height, reader.width)
    scale = np.array([width / reader.width, height / reader.height] * 2)
    for (_, _, picture), box, moving in zip(reader.frames(opened.start, opened.stop, short_side), result.boxes, result.moving, strict=True):
        yield draw_box(evened(picture, height, width), box * scale, _MOVING if moving else _CARRIED)
        advance(0)


def draw_box(picture: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Draws the outline of a box x1, y1, x2, y2 (px) into a picture `(H, W, 3)`, which is returned."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    for edge in (
        picture[y1 : y1 + _LINE_PX, x1:x2],
        picture[max(y2 - _LINE_PX, 0) : y2, x1:x2],
        picture[y1:y2, x1 : x1 + _LINE_PX],
        picture[y1:y2, max(x2 - _LINE_PX, 0) : x2],
    ):
        edge[:] = colour
    return picture


def _one_thread() -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
