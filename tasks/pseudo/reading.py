"""Frames of a video in pieces, and some of them at random."""

from collections.abc import Iterator

import numpy as np

from tasks.core.video.reader import VideoReader

_WINDOW_PIXELS = 1 << 24
_DONORS = 16


def windows(
    reader: VideoReader, start: int, stop: int, short_side: int | None, batch: int, limit: int
) -> Iterator[tuple[list[int], list[float], np.ndarray, np.ndarray | None]]:
    """Frames [start, stop) in pieces of bounded memory: numbers, times in s, `(n, H, W, 3)` uint8, and the frame after them or None.

    A piece holds whole batches, so that a batch holds the same frames in every run.

    Args:
        limit: most frames of a piece, unless a batch is larger.
    """
    numbers: list[int] = []
    times: list[float] = []
    frames: list[np.ndarray] = []
    size = 0
    for number, t, frame in reader.frames(start, stop, short_side):
        if not size:
            room = min(limit, _WINDOW_PIXELS // (frame.shape[0] * frame.shape[1]))
            size = max(1, room // batch) * batch
        if len(frames) == size:
            yield numbers, times, np.stack(frames), frame
            numbers, times, frames = [], [], []
        numbers.append(number)
        times.append(t)
        frames.append(frame)
    if frames:
        yield numbers, times, np.stack(frames), None


def some_frames(reader: VideoReader, rng: np.random.Generator, short_side: int | None) -> np.ndarray:
    """Up to 16 frames of a video, drawn at random, in order; `(n, H, W, 3)` uint8."""
    return reader.get(np.sort(rng.choice(reader.n_frames, min(_DONORS, reader.n_frames), replace=False)), short_side)
