"""Clips of blocks, and what becomes of videos that are too short for one."""

from dataclasses import dataclass

import numpy as np

from tasks.core.clips.clips import ClipSampler, frame_range
from tasks.core.clips.loader import Picked
from tasks.core.data.manifest import Row
from tasks.core.video.reader import VideoError
from tasks.predictive.config import PretrainConfig


@dataclass(frozen=True)
class WholeClips:
    """Draws clips of frames that all exist: a video that is shorter is skipped, with the reason.

    Attributes:
        clip: the frames of a clip.
        repeats: clips per visit.
    """

    clip: ClipSampler
    repeats: int = 1

    def __call__(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> Picked:
        """(repeats, T) frame numbers; VideoError where a clip does not fit."""
        low, high = frame_range(pts, row.start_s, row.end_s)
        steps = self.clip.frames - 1
        if self.clip.stride_s is None:
            has, needs, unit = high - low, steps * self.clip.stride_frames + 1, "frames"
        else:
            interval = (pts[high - 1] - pts[low]) / max(1, high - 1 - low)
            stride = self.clip.stride_s / (1 + self.clip.stride_jitter)
            has, needs, unit = pts[high - 1] - pts[low] + interval, steps * stride + interval, "s"
        if has < needs - 1e-6:
            raise VideoError(row.path, f"too short for a clip: {has:.3g} of {needs:.3g} {unit} (short: drop)")
        clips = [self.clip.train(len(pts), pts, rng, row.start_s, row.end_s) for _ in range(self.repeats)]
        return Picked(np.stack(clips))


def picker(config: PretrainConfig) -> WholeClips | None:
    """What chooses the frames of a row; None: clips are drawn as everywhere, and padded."""
    return WholeClips(ClipSampler.from_config(config.data.clip), config.data.repeats) if config.short == "drop" else None
