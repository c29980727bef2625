"""Novelty of a stream of samples at several time scales: how unlike two sides of a place are, compared with each side itself.

Foote, "Automatic audio segmentation using a measure of audio novelty", ICME 2000: a checkerboard kernel along the diagonal of the
self-similarity matrix. Here as the log of a ratio of mean distances, and from running sums along the diagonals, so that the cost does not
grow with the square of the window.
"""

import numpy as np

FLOOR = 4.0
"""Distances below this (levels out of 255, three channels added) are noise of camera and codec."""
TOP_SHARE = 0.1
"""Of the cells: those that change most speak for the picture, so that a person far away counts as much as one in front."""
BLOCK = 256


def top_mean(cells: np.ndarray) -> np.ndarray:
    """Mean of the largest TOP_SHARE along the last axis, one value at least; (n, cells) -> (n,)."""
    kept = max(1, int(cells.shape[-1] * TOP_SHARE))
    return np.partition(cells, -kept, axis=-1)[..., -kept:].mean(-1)


class Novelty:
    """Novelty of a stream of samples at several scales, in blocks of bounded size.

    Args:
        halves: samples on each side of a place, per scale.
    """

    def __init__(self, halves: list[int]):
        self.halves = halves
        self.reach = max(halves)
        self._kept: list[np.ndarray] = []
        self._first = 0  # number of the first sample kept
        self._done = 0  # samples whose novelty is known
        self._curves: list[list[np.ndarray]] = [[] for _ in halves]

    def add(self, sample: np.ndarray) -> None:
        """Take the next sample, (cells, 3) float32."""
        self._kept.append(sample)
        ready = self._first + len(self._kept) - self.reach
        if ready - self._done >= BLOCK:
            self._work(ready)

    def finish(self) -> list[np.ndarray]:
        """One curve per scale, (samples,) float64: log of cross over within distance; -inf within half a window of the ends."""
        self._work(self._first + len(self._kept))
        return [np.concatenate(parts) if parts else np.empty(0) for parts in self._curves]

    def _work(self, until: int) -> None:
        """Novelty of the samples [done, until); forgets what no later one needs."""
        samples = np.stack(self._kept) if self._kept else np.empty((0, 1, 3), np.float32)
        sums, counts = lag_sums(samples, 2 * self.reach - 1)
        places = np.arange(self._done, until) - self._first
        for half, parts in zip(self.halves, self._curves, strict=True):
            parts.append(novelty_at(places, half, len(samples), sums, counts))
        self._done = until
        spare = max(0, until - self.reach - self._first)
        del self._kept[:spare]
        self._first += spare


def lag_sums(samples: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray]:
    """Running sums of the distances between samples `lag` apart, and how many there are.

    Args:
        samples: (n, cells, 3) float32.

    Returns:
        (lags + 1, n + 1) float64 twice: entry [l, j] is over all pairs (i - l, i) with i < j.
    """
    n = len(samples)
    sums, counts = np.zeros((lags + 1, n + 1)), np.zeros((lags + 1, n + 1))
    for lag in range(1, min(lags, n - 1) + 1):
        sums[lag, lag + 1 :] = np.cumsum(top_mean(np.abs(samples[lag:] - samples[:-lag]).sum(-1)), dtype=np.float64)
        counts[lag, lag + 1 :] = np.arange(1, n - lag + 1)
    return sums, counts


def novelty_at(places: np.ndarray, half: int, n: int, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """log((mean cross + floor) / (mean within + floor)) for windows of `half` samples before and from each place on."""
    within, cross = np.zeros((2, len(places))), np.zeros((2, len(places)))

    def between(lag: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Sum and number of the pairs (i - lag, i) with low <= i < high."""
        low, high = np.clip(low, 0, n), np.clip(high, 0, n)
        high = np.maximum(low, high)
        return np.stack([table[lag, high] - table[lag, low] for table in (sums, counts)])

    for lag in range(1, 2 * half):
        cross += between(lag, np.maximum(places, places - half + lag), np.minimum(places + half, places + lag))
        if lag < half:
            within += between(lag, np.maximum(places - half, 0) + lag, places) + between(lag, places + lag, places + half)
    known = (places >= (half + 1) // 2) & (n - places >= (half + 1) // 2) & (within[1] > 0)
    means = [part[0] / np.maximum(part[1], 1) + FLOOR for part in (cross, within)]
    return np.where(known, np.log(means[0] / means[1]), -np.inf)


def around(curve: np.ndarray, half: int) -> np.ndarray:
    """The largest value within `half` samples to both sides; (n,) -> (n,)."""
    padded = np.pad(curve, half, constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).max(-1)
