"""Features of motion that need no model: histograms of optical flow around whatever moves, on a regular grid in time."""

import math
from collections.abc import Iterator
from itertools import pairwise
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
from tasks.core.towers.motion_parts import directions, in_context, posture, products
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader

REFERENCE = "motion"
FASTEST = 0.03
"""Share of the square whose speed is the pace."""
SEEN = {"rate_hz", "columns", "short_side", "side_px", "around", "cells", "directions", "block_s"}
"""Settings that change what features say, but for `context_s`, which has not always been there."""
_NEARLY = 1e-6


class MotionExtractor:
    """Motion as features (a `FeatureMaker`).

    A feature is, column after column of the picture, `cells * cells * directions` speeds, then pace, change and largest change:
    the mean over the pairs of pictures within a hop of how fast each cell of the square moves in each direction, in sides of the square per
    second, under a square root; the speed of the fastest `FASTEST` of the square, likewise; the mean and the highest absolute difference of
    neighbouring pictures over the column, under log(1 + x), in grey levels. The square is where something moves (`motion_squares`), so that
    people near and far look alike. With `context_s` it says what a gesture is like rather than what moves now: see `in_context`.

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
        return grid, blocks if self.config.context_s is None else in_context(blocks, self.config)

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
        """`(n, dim)` float32 of `(n * pairs + 1, H, W, 3)` uint8 RGB, `rate_hz` pictures a second; not yet in its context."""
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
        found = np.sqrt(self._hops(found))
        parts = [found[:, :-1], found[:, -1:], self._hops(changes)]
        if config.context_s is not None:
            times, squares = products(flow)
            raw = [posture(seen)[:-1], times.reshape(len(times), -1), squares]
            parts[1:1] = [self._hops(values) for values in raw]
        return np.concatenate(parts, 1).astype(np.float32)

    def _hops(self, values: np.ndarray) -> np.ndarray:
        """(n, c) means over the pairs of each hop of values (n * pairs, c)."""
        return values.reshape(-1, self.config.pairs, values.shape[1]).mean(1)

    def _moved(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.zeros((*first.shape, 2), np.float32) if np.array_equal(first, second) else self._flow(first, second)
