"""Where a camera begins to move, stops, or turns: operators follow what happens."""

import numpy as np

from tasks.core.flow.dis import DisFlow

HALF_S = 0.53
FLOOR_PX = 0.15
"""Speeds below this, px of a picture of 40 px height from one sample to the next, are noise."""


class CameraTurns:
    """How much the camera's speed differs between the half seconds before and after each place of a stream.

    Args:
        interval_s: from one sample to the next, seconds.
    """

    def __init__(self, interval_s: float):
        self.half = max(2, round(HALF_S / interval_s))
        self._flow = DisFlow("ultrafast", finest_scale=0)
        self._previous: np.ndarray | None = None
        self._speeds: list[np.ndarray] = []

    def add(self, sample: np.ndarray) -> None:
        """Take the next sample, (H, W) float32 levels."""
        picture = np.rint(np.clip(sample, 0, 255)).astype(np.uint8)
        speed = np.zeros(2)
        if self._previous is not None and min(picture.shape) >= 12:
            speed = np.median(self._flow(self._previous, picture).reshape(-1, 2), 0).astype(np.float64)
        self._speeds.append(speed)
        self._previous = picture

    def finish(self) -> np.ndarray:
        """(n,) float64: log of the difference of the two sides' median speeds over the mean distance from them; -inf at the ends."""
        return turns(np.array(self._speeds).reshape(-1, 2), self.half)


def turns(speeds: np.ndarray, half: int) -> np.ndarray:
    """`CameraTurns.finish` from (n, 2) speeds, px a sample."""
    found = np.full(len(speeds), -np.inf)
    for t in range(half // 2 + 1, len(speeds) - half // 2):
        sides = speeds[max(1, t - half) : t], speeds[t : t + half]
        middles = [np.median(side, 0) for side in sides]
        spread = sum(np.linalg.norm(side - middle, axis=1).mean() for side, middle in zip(sides, middles, strict=True))
        found[t] = np.log((np.linalg.norm(middles[1] - middles[0]) + FLOOR_PX) / (spread + FLOOR_PX))
    return found
