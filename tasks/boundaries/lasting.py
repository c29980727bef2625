"""Changes that last: the picture settles into something else than it was, by a dissolve or because somebody or something has moved.

For every place of a stream and every pixel: the mean over half a second after it against the mean over half a second before it, a gap
around the place left out, compared with how much the pixel changes within the two sides. The mean over all pixels is the share of the
picture that has changed for good. What moves all the time, flickers or repeats itself changes within the sides too and counts little; so
does a camera that pans, of which in addition the change that its own speed foretells is taken off.
"""

from collections import deque

import numpy as np

GAPS_S = (0.27, 0.6)
"""Half a gap, seconds: transitions of up to twice this are seen whole."""
SIDE_S = 0.53
WITHIN = 30.0
"""A change counts half where its square is this many times the variance within the sides."""
NOISE = 4.0
"""Squared levels (of 255) that are noise of camera and codec."""
DRIFT = 0.5
"""Of the change that the slopes within the sides foretell, the share that is taken off."""
GAIN = 0.5, 2.0
"""Factors of exposure that are no change."""
MIXED = 0.3
"""A blend has shares s between 0 and 1 with at least this sum of s (1 - s); a cut has not."""
LEAST = 0.01
"""Of smaller shares of the picture nobody asks whether they are a blend."""
CHANGED = 0.3
"""Pixels whose change counts this much show whether it is a blend."""


class LastingChange:
    """Share of the picture that changes for good at each place of a stream of samples, and how far that is from a blend.

    Of three samples in a row every pixel has their median: a flash or a broken picture is not seen.

    Args:
        interval_s: from one sample to the next, seconds.
    """

    def __init__(self, interval_s: float):
        self.side = max(3, round(SIDE_S / interval_s))
        self.gaps = [max(1, round(gap / interval_s)) for gap in GAPS_S]
        self.reach = max(self.gaps) + self.side
        self._kept = deque[np.ndarray](maxlen=2 * self.reach)
        self._raw = deque[np.ndarray](maxlen=3)
        self._found: list[tuple[float, float]] = []
        self._n = 0

    def add(self, sample: np.ndarray) -> None:
        """Take the next sample, (H, W) float32 levels."""
        flat = sample.ravel()
        self._raw.append(flat - np.median(flat))
        self._n += 1
        if len(self._raw) > 1:
            self._take(median_of_three(self._raw[0], self._raw[1], self._raw[-1]))

    def _take(self, flat: np.ndarray) -> None:
        self._kept.append(flat)
        if len(self._kept) == 2 * self.reach:
            samples = np.stack(self._kept)
            spare = [self.reach - gap - self.side for gap in self.gaps]
            self._found.append(max(changed(samples[less : len(samples) - less], self.side) for less in spare))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Of all samples, each as the first one after a change.

        Returns:
            (n,) float64 share of the picture in [0, 1], NaN where a side is not whole;
            (n,) float64 distance from a blend: near 0 where all pixels change together, about 1 where each changes at its own time, or
            all of them at once, or hardly any.
        """
        if self._n:
            self._take(self._raw[-1])
        shares, unlike = np.full(self._n, np.nan), np.ones(self._n)
        if self._found:
            where = slice(self.reach, self.reach + len(self._found))
            shares[where], unlike[where] = np.array(self._found).T
        return shares, unlike


def changed(samples: np.ndarray, side: int) -> tuple[float, float]:
    """What changes for good in the middle of a window.

    Args:
        samples: (n, pixels) float32, without what all pixels have in common.
        side: samples of each side; what is between them is the gap.

    Returns:
        share of the picture, distance from a blend.
    """
    left, right = samples[:side], samples[-side:]
    means = left.mean(0), right.mean(0)
    change = means[1] - exposed(*means)
    spread = np.square(left).mean(0) - np.square(means[0]) + np.square(right).mean(0) - np.square(means[1])
    steps = np.arange(side) - (side - 1) / 2
    steps = (steps / (steps @ steps)).astype(np.float32)
    drift = np.maximum(np.abs(steps @ left), np.abs(steps @ right)) * (len(samples) - side)
    square = np.square(np.maximum(np.abs(change) - DRIFT * drift, 0))
    counts = square / (square + WITHIN * np.maximum(spread, 0) + NOISE)
    share = float(counts.mean())
    if share < LEAST:
        return share, 1.0
    clear = np.flatnonzero(counts > CHANGED)
    between = samples[side : len(samples) - side, clear]
    return share, unlike_blend(between, means[0][clear], means[1][clear], spread[clear], counts[clear])


def median_of_three(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The middle value of each place."""
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def exposed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`before` with the exposure of `after`: a factor within GAIN and an offset, by least squares; (pixels,) each."""
    centred = before - before.mean()
    power = float(centred @ centred)
    factor = float(np.clip(centred @ (after - after.mean()) / power, *GAIN)) if power > 1e-6 * before.size else GAIN[0]
    return factor * centred + after.mean()


def unlike_blend(between: np.ndarray, before: np.ndarray, after: np.ndarray, spread: np.ndarray, weights: np.ndarray) -> float:
    """How far samples between two pictures are from mixtures of them: what one share for all pixels leaves over, by what would be left
    over if each pixel had switched by itself; 1 where nothing has changed, or everything at once.

    Args:
        between: (n, pixels) samples of the transition.
        before, after: (pixels,) means of the two sides.
        spread: (pixels,) sum of the variances within them.
        weights: (pixels,) of the pixels.
    """
    change = after - before
    power = float(weights @ (change * change))
    if power == 0:
        return 1.0
    apart = between - before
    shares = np.clip(apart @ (weights * change) / power, 0, 1)
    mixed = float((shares * (1 - shares)).sum())
    if mixed < MIXED:
        return 1.0
    left_over = float((((apart - shares[:, None] * change) ** 2) @ weights).sum()) - len(between) * float(weights @ spread) / 2
    return left_over / (power * mixed)
