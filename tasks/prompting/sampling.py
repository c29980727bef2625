"""Which features of a video make a clip."""

import os
import zlib
from collections.abc import Sequence

import numpy as np


def draw_clip(n: int, frames: int, gaps: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A random clip: a gap among those with which it fits, then a place; a video that is shorter at every gap ends in its last feature.

    Args:
        n: features of the video, at least 1.
        frames: of the clip.
        gaps: distances of neighbours that may be drawn, increasing.
        rng: draws.

    Returns:
        (frames,) int64, numbers of features, not decreasing; the place of the gap in `gaps`.
    """
    fitting = sum((frames - 1) * gap < n for gap in gaps)
    number = int(rng.integers(max(fitting, 1)))
    last = (frames - 1) * gaps[number]
    start = int(rng.integers(max(n - last, 1)))
    return np.minimum(start + gaps[number] * np.arange(frames), n - 1), number


def draws_of(path: str, seed: int) -> np.random.Generator:
    """The generator for the clips of a video in testing: the same whatever else is tested, and wherever the file lies."""
    return np.random.default_rng([seed, zlib.crc32(os.path.basename(path).encode("utf-8", "surrogateescape"))])
