"""Band-limited interpolation: the value of sampled sound at any time, by a windowed sinc (J. O. Smith, Digital Audio Resampling).

It has no latency to make up for: what comes out stands at the times that were asked for, to a fraction of a sample. Files whose clock
drifts, and parts that begin between two samples, are met by the same few lines as a change of rate.
"""

from functools import lru_cache

import numpy as np

ZEROS = 32  # zero crossings of the sinc on each side
BETA = 9.0  # of the Kaiser window: everything that would fold back is 90 dB down
ROLLOFF = 0.92  # the low-pass is at half height here, as a share of the lower Nyquist frequency; flat to 0.83, closed at 1.01
STEPS = 512  # places between two samples for which weights are tabled; in between they are interpolated (error below -100 dB)
_ROWS = 1024
_ON_A_SAMPLE = 1e-6


def reach(source: int, target: int) -> int:
    """How many samples of the source on each side one sample of the target depends on. Rates in Hz."""
    return int(np.ceil(ZEROS * max(1.0, source / target) / _rolloff(source, target)))


def interpolate(samples: np.ndarray, positions: np.ndarray, source: int, target: int, first: int = 0) -> np.ndarray:
    """Sound at fractional positions, low-passed for the lower of the two rates.

    Args:
        samples: (n,) float32 at `source` Hz. What lies outside is silence.
        positions: (m,) float64, where in the sound, in steps of one sample.
        source, target: rates, Hz; the positions are (about) source / target apart.
        first: position of `samples[0]`. What comes out does not depend, to the last bit, on how much of a sound is given at once.

    Returns:
        (m,) float32.
    """
    half = reach(source, target)
    whole = np.floor(positions + _ON_A_SAMPLE).astype(np.int64)
    between = np.maximum(positions - whole, 0.0)
    whole -= first
    padded = np.pad(samples.astype(np.float32, copy=False), 2 * half)
    out = np.zeros(len(positions), np.float32)
    rows_near = np.flatnonzero((whole >= -half) & (whole < len(samples) + half))
    if source == target and len(between) and between.max() < _ON_A_SAMPLE:
        out[rows_near] = padded[whole[rows_near] + 2 * half]
        return out
    table, windows = _weights(source, target), np.lib.stride_tricks.sliding_window_view(padded, 2 * half)
    for rows in np.split(rows_near, range(_ROWS, len(rows_near), _ROWS)):
        step = between[rows] * STEPS
        low = np.minimum(step.astype(np.int64), STEPS - 1)
        share = (step - low).astype(np.float32)
        seen = windows[whole[rows] + half + 1]
        found = np.einsum("nt,nt->n", seen, table[low])
        if share.size and share.max() > _ON_A_SAMPLE:
            found += share * (np.einsum("nt,nt->n", seen, table[low + 1]) - found)
        out[rows] = found
    return out


def _rolloff(source: int, target: int) -> float:
    return 1.0 if source == target else ROLLOFF


@lru_cache(maxsize=8)
def _weights(source: int, target: int) -> np.ndarray:
    """(STEPS + 1, 2 * reach) float32: weights of the samples around a position, for each step of the way from one sample to the next.

    Row by row they sum to 1, so that a constant stays what it is.
    """
    half = reach(source, target)
    cutoff = _rolloff(source, target) * min(1.0, target / source)
    distance = np.arange(-half + 1, half + 1) - np.arange(STEPS + 1)[:, None] / STEPS
    window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1 - (distance / half) ** 2)))
    weights = np.sinc(cutoff * distance) * window
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
