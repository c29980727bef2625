"""Features of motion that need no model: histograms of optical flow around whatever moves, on a regular grid in time."""

import math
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tasks.core.clips.clips import duration_s, frame_range
from tasks.core.clips.motion_crop import boxes_around, motion_squares
from tasks.core.data.feature_sidecar import describe
from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row
from tasks.core.flow.dis import DisFlow
from tasks.core.flow.flow import to_grey
from tasks.core.inference.loop import Advance, still
from tasks.core.towers.config import MotionConfig
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader

REFERENCE = "motion"
FASTEST = 0.03
"""Share of the square whose speed is the pace."""
STILL = 0.05
"""Added to lengths in a context, so that noise where nothing moves stays small."""
SEEN = {"rate_hz", "columns", "short_side", "side_px", "around", "cells", "directions", "block_s"}
"""Settings that change what features say, but for `context_s`, which has not always been there."""
_NEARLY = 1e-6


class MotionExtractor:
    """Motion as features (a `FeatureMaker`).

    A feature is, column after column of the picture, `cells * cells * directions` speeds, then pace, change and largest change:
    the mean over the pairs of pictures within a hop of how fast each cell of the square moves in each direction, in sides of the square per
    second, under a square root; the speed of the fastest `FASTEST` of the square, likewise; the mean and the highest absolute difference of
    neighbouring pictures over the column, under log(1 + x), in grey levels. With `context_s` the speeds are the mean
    over the features around, of length 1 in each column. The square is where something moves (`motion_squares`), so that
    people near and far look alike.

    Args:
        config: settings.

    Attributes:
        method, made_by, steps, described, settings, format, dtype, dim: as `FeatureMaker`.
    """

    method = REFERENCE

    def __init__(self, config: MotionConfig):
        self.config, self.format, self.dtype, self.dim = config, config.format, config.dtype, config.dim
        seen = config.model_dump(include=SEEN) | ({} if config.context_s is None else {"context_s": config.context_s})
        self.steps = {"stride_s": config.hop_s, "span_s": config.hop_s * (2 * config.around_hops + 1)}
        self.made_by = {"reference": REFERENCE, "weights_hash": None, "motion": seen}
        self.described = describe(self.made_by, self.steps, config.format, config.dtype)
        self.settings = {"motion": seen, "hop_s": config.hop_s, "id": self.described["id"]}
        self._flow = DisFlow("medium")

    def of_row(self, row: Row, advance: Advance) -> tuple[np.ndarray, Grid | None, np.ndarray | None, dict[str, Any]]:
        """As `FeatureMaker`; the facts are `n_frames` (of the file) and `damage` (text or None)."""
        with open_video(row.path, self.config.decoder) as reader:
            grid, blocks = self.stream(reader, row.start_s, row.end_s, advance)
            return np.concatenate(list(blocks)), grid, None, {"n_frames": reader.n_frames, "damage": reader.damage}

    def stream(
        self, reader: VideoReader, start_s: float | None = None, end_s: float | None = None, advance: Advance = still
    ) -> tuple[Grid, Iterator[np.ndarray]]:
        """The grid and the features, block after block of `block_s`, of an open video or the part start_s <= t < end_s of it.

        Args:
            advance: told of the frames that are behind.

        Returns:
            the grid, of which the first feature without its context begins with the first frame; arrays (n, dim) float32.

        Raises:
            VideoError: the video cannot be decoded (from the iterator too).
        """
        pts = reader.pts
        low, high = frame_range(pts, start_s, end_s)
        until = pts[0] + duration_s(pts, None)
        until = until if end_s is None else min(until, end_s)
        begin, hop, around = float(pts[low]), self.config.hop_s, self.config.around_hops
        n = max(1, math.ceil((until - begin) / hop - _NEARLY))
        grid = Grid(hop, self.steps["span_s"], begin - around * hop)
        blocks = self._blocks(reader, n, low, high, advance)
        return grid, in_context(blocks, around, self.config) if around else blocks

    def _blocks(self, reader: VideoReader, n: int, low: int, high: int, advance: Advance) -> Iterator[np.ndarray]:
        at_once, behind, begin = max(1, round(self.config.block_s / self.config.hop_s)), low, float(reader.pts[low])
        for first in range(0, n, at_once):
            count = min(at_once, n - first)
            times = begin + first * self.config.hop_s + np.arange(count * self.config.pairs + 1) / self.config.rate_hz
            numbers = np.clip(np.searchsorted(reader.pts, times + _NEARLY, side="right") - 1, low, high - 1)
            wanted, places = np.unique(numbers, return_inverse=True)
            pictures = torch.from_numpy(reader.get(wanted, self.config.short_side))
            yield self.of_pictures(pictures[torch.from_numpy(places)])
            advance(int(numbers[-1]) - behind)
            behind = int(numbers[-1])

    def of_pictures(self, pictures: torch.Tensor) -> np.ndarray:
        """`(n, dim)` float32 of `(n * pairs + 1, H, W, 3)` uint8 RGB, `rate_hz` pictures a second."""
        width = pictures.shape[2] // self.config.columns
        columns = [self._column(pictures[:, :, at * width : (at + 1) * width]) for at in range(self.config.columns)]
        return np.concatenate(columns, 1)

    def _column(self, pictures: torch.Tensor) -> np.ndarray:
        config, (height, width) = self.config, pictures.shape[1:3]
        grey = to_grey(pictures)
        size = torch.tensor([[height, width]])
        square = motion_squares(pictures.permute(0, 3, 1, 2)[None], size)
        top, left, tall, wide = boxes_around(square, size, config.around)[0].tolist()
        seen = grey[:, None, top : top + tall, left : left + wide].float()
        seen = F.interpolate(seen, (config.side_px, config.side_px), mode="bilinear", antialias=True)[:, 0].round().byte().numpy()
        flow = np.stack([self._moved(a, b) for a, b in pairwise(seen)]) * (config.rate_hz / config.side_px)
        change = (grey[1:].short() - grey[:-1].short()).abs().float()
        coarse = F.avg_pool2d(change[:, None], 4, ceil_mode=True, count_include_pad=False).flatten(1)
        changes = torch.stack([change.mean((1, 2)), coarse.amax(1)], 1).log1p().numpy()
        speed = np.hypot(flow[..., 0], flow[..., 1]).reshape(len(flow), -1)
        count = max(1, round(FASTEST * speed.shape[1]))
        pace = np.partition(speed, -count, 1)[:, -count:].mean(1, keepdims=True)
        found = np.concatenate([directions(flow, config.cells, config.directions).reshape(len(flow), -1), pace], 1)
        pairs = (-1, config.pairs)
        return np.concatenate([np.sqrt(found.reshape(*pairs, found.shape[1]).mean(1)), changes.reshape(*pairs, 2).mean(1)], 1).astype(
            np.float32
        )

    def _moved(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.zeros((*first.shape, 2), np.float32) if np.array_equal(first, second) else self._flow(first, second)


def in_context(blocks: Iterator[np.ndarray], around: int, config: MotionConfig) -> Iterator[np.ndarray]:
    """Features whose directions are the mean of those of `around` features before and after them, of length 1 in each column; at the ends
    of the video of as many as there are.

    Args:
        blocks: (n, dim) arrays, one after the other.
    """
    size, held, first, done = config.cells**2 * config.directions, None, 0, 0
    for block in chain(blocks, [None]):
        if block is not None:
            held = block if held is None else np.concatenate([held, block])
        stop = first + len(held) - (0 if block is None else around)
        if stop > done:
            places = np.arange(done, stop) - first
            sums = np.concatenate([np.zeros((1, held.shape[1])), held.cumsum(0, np.float64)])
            low, high = np.maximum(places - around, 0), np.minimum(places + around + 1, len(held))
            means = ((sums[high] - sums[low]) / (high - low)[:, None]).reshape(len(places), config.columns, -1)
            found = held[places].reshape(means.shape).copy()
            length = np.linalg.norm(means[..., :size], axis=-1, keepdims=True)
            found[..., :size] = means[..., :size] / (length + STILL)
            yield found.reshape(len(places), -1)
            done = stop
            behind = max(0, done - around - first)
            held, first = held[behind:], first + behind


def directions(flow: np.ndarray, cells: int, count: int) -> np.ndarray:
    """Mean speed in each cell of what moves in each direction.

    Args:
        flow: (T, S, S, 2), x to the right, y down.
        cells: in a row and in a column; divides S.
        count: of equal sectors, the first from -pi on, of atan2(y, x).

    Returns:
        (T, cells, cells, count) float32.
    """
    t, side = flow.shape[:2]
    u, v = flow[..., 0], flow[..., 1]
    speed, sector = np.hypot(u, v), np.floor((np.arctan2(v, u) + np.pi) / (2 * np.pi) * count).astype(np.int64) % count
    blocks = (t, cells, side // cells, cells, side // cells)
    return np.stack([np.where(sector == k, speed, 0).reshape(blocks).mean((2, 4)) for k in range(count)], -1).astype(np.float32)


def mirrored(config: MotionConfig) -> np.ndarray:
    """(dim,) int64: where each channel of the features of a mirrored video is found among those of the video, each column by itself.

    Exact but for pixels that move along an axis between two sectors.
    """
    cells, count = config.cells, config.directions
    channel = np.arange(cells * cells * count).reshape(cells, cells, count)
    channel = channel[:, ::-1, (3 * count // 2 - 1 - np.arange(count)) % count].reshape(-1)
    own = np.concatenate([channel, len(channel) + np.arange(3)])
    return np.concatenate([own + at * len(own) for at in range(config.columns)])
