"""Where the boxes of a clip's frames come from: a file, or the frames themselves."""

from typing import Any

import numpy as np

from tasks.core.clips.boxes import inside
from tasks.core.clips.config import BoxInput, DataConfig
from tasks.core.data.boxes import BoxFile
from tasks.core.data.rows import Rows
from tasks.core.errors import InputError
from tasks.core.flow.box_rules import central_half
from tasks.core.flow.boxes import MotionBoxes
from tasks.core.reporter import Reporter
from tasks.core.video.reader import VideoError


class BoxSource:
    """Boxes as `data.boxes` says. Can be sent to worker processes.

    Args:
        config: InputError where its file cannot be read.
    """

    def __init__(self, config: BoxInput):
        self.control = config.control
        self._whole = config.control == "whole"
        self._file = BoxFile(config.file) if config.file is not None and not self._whole else None
        self._compute = MotionBoxes(config.compute)

    def of_clip(self, path: str, video: Any, frames: np.ndarray, pictures: np.ndarray) -> tuple[np.ndarray, bool]:
        """The boxes of a clip's frames.

        Args:
            path: of the video.
            video: anything with its `height` and `width` as decoded.
            frames: `(T,)` frame numbers.
            pictures: `(T, h, w, 3)` uint8 of these frames, perhaps scaled.

        Returns:
            `(T, 4)` float32 px of the pictures, zeros for a frame without a box (`core.clips.boxes`); whether boxes were computed and
            nothing moves.

        Raises:
            VideoError: the pictures are too small for optical flow, or the file names the video in several ways.
        """
        height, width = pictures.shape[1:3]
        if self._whole:
            return np.tile(np.float32((0, 0, width, height)), (len(frames), 1)), False
        try:
            if self._file is not None:
                scale = np.array([width / video.width, height / video.height] * 2)
                return inside(self._read(path, frames) * scale, height, width).astype(np.float32), False
            found = self._compute.of_pictures(pictures)
        except InputError as error:
            raise VideoError(path, error.message) from None
        return inside(found, height, width).astype(np.float32), bool((found == central_half(height, width)).all())

    def knows(self, path: str) -> bool:
        """Whether there are boxes of a video: of one that a file leaves out there are none."""
        return self._file is None or bool(self._file.find(path))

    def _read(self, path: str, frames: np.ndarray) -> np.ndarray:
        """`(T, 4)` px of the video as decoded; zeros where the file has none of it."""
        boxes = self._file.find(path)
        if not boxes:
            return np.zeros((len(frames), 4))
        numbers = np.array(sorted(boxes))
        nearest = numbers[np.abs(numbers - np.asarray(frames)[:, None]).argmin(1)]
        around = {number: (*boxes[number][:, :2].min(0), *boxes[number][:, 2:].max(0)) for number in np.unique(nearest).tolist()}
        return np.array([around[number] for number in nearest.tolist()], np.float64)


def check_boxes(data: DataConfig, rows: Rows) -> int:
    """Looks before training whether a file of boxes belongs to the videos.

    Args:
        data: nothing is checked where its `boxes` have no file.
        rows: of the training set.

    Returns:
        how many of them the file leaves out.

    Raises:
        InputError: the file cannot be read, or has boxes of none of the videos.
    """
    if data.boxes is None or data.boxes.file is None:
        return 0
    source = BoxSource(data.boxes)
    missing = [path for path in dict.fromkeys(rows.values("path")) if not source.knows(path)]
    paths = len(dict.fromkeys(rows.values("path")))
    if len(missing) == paths:
        raise InputError(
            f"{data.boxes.file} has boxes of none of the {paths} training videos, the first is {missing[0]}",
            f"vid motion-boxes VIDEOS -o {data.boxes.file} finds them; data.boxes=compute does without a file",
        )
    return len(missing)


def warn_of_missing(data: DataConfig, rows: Rows, reporter: Reporter, fallback: str) -> None:
    """Warns of training videos that a file of boxes leaves out.

    Args:
        data: of the run.
        rows: of the training set.
        reporter: is told.
        fallback: what is done with them, in words.
    """
    if missing := check_boxes(data, rows):
        reporter.warn(f"{data.boxes.file} has no boxes of {missing} training videos: {fallback}")
