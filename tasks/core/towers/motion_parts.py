"""What features of motion are made of: directions, posture, repetition, and their mean over a context."""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from tasks.core.towers.config import POSTURE_CELLS, REPEAT_CELLS, REPEAT_LAGS, MotionConfig

AMOUNTS = 3
"""Channels that say how much moves: pace, change, largest change."""
NOISE_LEVELS = 8.0
"""Grey levels by which a picture differs from the median of all by noise alone."""
STILL = {"directions": 0.05, "posture": 1.0, "repetition": 1e-4}
"""Added to what is divided by, so that noise where nothing moves stays small: lengths, and squared sides of the square per second."""


def cell_means(values: np.ndarray, cells: int) -> np.ndarray:
    """(T, cells, cells, ...) means of values (T, S, S, ...); cells divides S."""
    t, side = values.shape[:2]
    return values.reshape(t, cells, side // cells, cells, side // cells, *values.shape[3:]).mean((2, 4))


def directions(flow: np.ndarray, cells: int, count: int) -> np.ndarray:
    """Mean speed in each cell of what moves in each direction.

    Args:
        flow: (T, S, S, 2), x to the right, y down.
        cells: in a row and in a column; divides S.
        count: of equal sectors, the first from -pi on, of atan2(y, x).

    Returns:
        (T, cells, cells, count) float32.
    """
    u, v = flow[..., 0], flow[..., 1]
    speed, sector = np.hypot(u, v), np.floor((np.arctan2(v, u) + np.pi) / (2 * np.pi) * count).astype(np.int64) % count
    return np.stack([cell_means(np.where(sector == k, speed, 0), cells) for k in range(count)], -1).astype(np.float32)


def posture(pictures: np.ndarray) -> np.ndarray:
    """Where pictures (T, S, S) uint8 differ from the median of all, what noise reaches left out: (T, POSTURE_CELLS ** 2) grey levels."""
    apart = np.abs(pictures.astype(np.float32) - np.median(pictures, 0)) - NOISE_LEVELS
    return cell_means(np.clip(apart, 0, None), POSTURE_CELLS).reshape(len(pictures), -1)


def products(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the repetition of motion is computed from.

    Args:
        flow: (T, S, S, 2).

    Returns:
        (T, lags, cells * cells * 2): the mean flow of each cell along each axis, times what it is REPEAT_LAGS pairs later (then 0);
        (T, cells * cells * 2): its square.
    """
    mean = cell_means(flow, REPEAT_CELLS).reshape(len(flow), -1)
    later = np.stack([np.pad(mean[lag:], ((0, min(lag, len(mean))), (0, 0)))[: len(mean)] for lag in REPEAT_LAGS], 1)
    return mean[:, None] * later, mean**2


def in_context(blocks: Iterator[np.ndarray], config: MotionConfig) -> Iterator[np.ndarray]:
    """Features in their context: directions and posture are means over the features around, of length 1 in each column, repetition is the
    autocorrelation of motion over them; the amounts stay those of the feature. At the ends of a video there are fewer features around.

    Args:
        blocks: (n, columns * raw) arrays, one after the other; of each column directions, posture, products, squares and amounts.
        config: settings, with `context_s`.

    Yields:
        (n, dim) float32, of each column directions, posture, repetition and amounts.
    """
    around, held, first, done = config.around_hops, None, 0, 0
    for block in chain(blocks, [None]):
        if block is not None:
            held = block if held is None else np.concatenate([held, block])
        stop = first + len(held) - (0 if block is None else around)
        if stop > done:
            places = np.arange(done, stop) - first
            sums = np.concatenate([np.zeros((1, held.shape[1])), held.cumsum(0, np.float64)])
            low, high = np.maximum(places - around, 0), np.minimum(places + around + 1, len(held))
            means = ((sums[high] - sums[low]) / (high - low)[:, None]).reshape(len(places), config.columns, -1)
            own = held[places].reshape(means.shape)[..., -AMOUNTS:]
            yield np.concatenate([_described(means, config), own], -1).reshape(len(places), -1).astype(np.float32)
            done = stop
            behind = max(0, done - around - first)
            held, first = held[behind:], first + behind


def _described(means: np.ndarray, config: MotionConfig) -> np.ndarray:
    """Directions, posture and repetition (..., channels) of means over a context (..., raw)."""
    cells = REPEAT_CELLS**2 * 2
    sizes = np.cumsum([config.cells**2 * config.directions, POSTURE_CELLS**2, len(REPEAT_LAGS) * cells, cells])
    moved, stood, times, squares, _ = np.split(means, sizes, -1)
    stood = np.sqrt(np.clip(stood, 0, None))
    again = times.reshape(*times.shape[:-1], -1, cells) / (squares[..., None, :] + STILL["repetition"])
    parts = [
        moved / (np.linalg.norm(moved, axis=-1, keepdims=True) + STILL["directions"]),
        stood / (np.linalg.norm(stood, axis=-1, keepdims=True) + STILL["posture"]),
        again.reshape(times.shape),
    ]
    return np.concatenate(parts, -1)


def mirrored(config: MotionConfig) -> np.ndarray:
    """(dim,) int64: where each channel of the features of a mirrored video is found among those of the video, each column by itself.

    Exact but for pixels that move along an axis between two sectors.
    """
    cells, count = config.cells, config.directions
    parts = [np.arange(cells * cells * count).reshape(cells, cells, count)[:, ::-1, (3 * count // 2 - 1 - np.arange(count)) % count]]
    if config.context_s is not None:
        parts.append(np.arange(POSTURE_CELLS**2).reshape(POSTURE_CELLS, POSTURE_CELLS)[:, ::-1])
        shape = (len(REPEAT_LAGS), REPEAT_CELLS, REPEAT_CELLS, 2)
        parts.append(np.arange(np.prod(shape)).reshape(shape)[:, :, ::-1])
    parts.append(np.arange(AMOUNTS))
    starts = np.cumsum([0, *(part.size for part in parts)])
    own = np.concatenate([part.ravel() + start for part, start in zip(parts, starts[:-1], strict=True)])
    return np.concatenate([own + at * len(own) for at in range(config.columns)])
