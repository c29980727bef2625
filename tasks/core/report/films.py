"""Frames of a video beside each other: what a page shows of it."""

import numpy as np

from tasks.core.clips.clips import frame_range
from tasks.core.data.rows import Row
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader


def strip(row: Row, frames: int, side: int, decoder: str = "auto") -> np.ndarray:
    """The middle squares of frames that are spread over a row's part of its video, beside each other.

    Returns:
        (side, frames * side, 3) uint8 RGB.

    Raises:
        VideoError: it cannot be read.
    """
    with open_video(row.path, decoder) as reader:
        return film(reader, *frame_range(reader.pts, row.start_s, row.end_s), frames, side)


def film(reader: VideoReader, low: int, high: int, frames: int, side: int) -> np.ndarray:
    """The same of the frames [low, high) of an open video."""
    places = low + ((np.arange(frames) + 0.5) * (high - low) / frames).astype(np.int64)
    pictures = reader.get(places, side)
    top, left = ((length - side) // 2 for length in pictures.shape[1:3])
    squares = pictures[:, top : top + side, left : left + side]
    return np.concatenate(list(squares), axis=1)
