"""What cVCLR sees of a video: two tuples of clips, one clip per segment, and three frames (thesis section 3.3.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks.boundaries.config import PretrainConfig
from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.clips import ClipSampler, frame_range
from tasks.core.clips.loader import Picked
from tasks.core.data.manifest import Row
from tasks.core.engine.random import derive_seed
from tasks.core.profile import moved

FRAMES = 3


@dataclass(frozen=True)
class TuplePicker:
    """Draws the frames of one row: K anchor clips, K positive clips, three frames, one after the other.

    Anchor and positive clip of a segment are drawn independently. The three frames come from the three thirds of the video, in random
    order, so that the first one (the anchor) may be of any third; the thesis says only that they are random.

    Attributes:
        segments: K.
        clip: of one segment.
        repeats: draws per visit.
    """

    segments: int
    clip: ClipSampler
    repeats: int = 1

    @classmethod
    def from_config(cls, config: PretrainConfig) -> "TuplePicker":
        """Clips as `data.clip` says; single frames where the clip tasks are off."""
        clip = ClipSampler.from_config(config.data.clip)
        if not config.contrast.clip_tasks:
            clip = ClipSampler(1)
        return cls(config.contrast.segments, clip, config.data.repeats)

    def __call__(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> Picked:
        """(repeats, 2 K T + 3) frame numbers."""
        return Picked(np.stack([self._draw(pts, rng, row) for _ in range(self.repeats)]))

    def _draw(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> np.ndarray:
        parts = thirds = segment_times(pts, row, self.segments)
        if self.segments != FRAMES:
            thirds = segment_times(pts, row, FRAMES)
        clips = [self.clip.train(len(pts), pts, rng, *part) for _ in range(2) for part in parts]
        frames = [ClipSampler(1).train(len(pts), pts, rng, *part) for part in thirds]
        return np.concatenate([*clips, *(frames[i] for i in rng.permutation(FRAMES))])


def segment_times(pts: np.ndarray, row: Row, count: int) -> list[tuple[float, float]]:
    """(start, end) in seconds of `count` equally long parts of the row's part of a video."""
    low, high = frame_range(pts, row.start_s, row.end_s)
    last = pts[high - 1]
    end = last + (last - pts[low]) / max(1, high - 1 - low)  # the last frame stays for one frame interval
    edges = np.linspace(pts[low], end, count + 1)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


class PretrainViews:
    """From a batch of picked frames to augmented views; every choice depends on the row's entry of `batch["seed"]` alone."""

    def __init__(self, config: PretrainConfig):
        self.segments = config.contrast.segments
        self.frames = config.data.clip.frames if config.contrast.clip_tasks else 1
        self.consistent = config.contrast.consistent_augment
        self.transform = TrainTransform(config.augment, config.model.image_size)

    def __call__(self, batch: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
        """Augments on `device`.

        Args:
            batch: `video` (N, 2 K T + 3, 3, H, W) uint8, `size`, `seed`, `uid` as from the loader.

        Returns:
            `frames` (N, 4, 3, S, S): two views of the first frame, one of each other; `anchor`, `positive` (N, K, T, 3, S, S), all
            float32, normalised; `uid` (N,) int64.
        """
        video = moved(batch, device)["video"]
        k, t = self.segments, self.frames
        singles = video[:, 2 * k * t :]
        frames = torch.stack([singles[:, 0], singles[:, 0], singles[:, 1], singles[:, 2]], 1)
        clips = video[:, : 2 * k * t].unflatten(1, (2 * k, t))
        if self.consistent:
            clips = self._augment(clips, batch, 0)
        else:
            clips = self._augment(clips.flatten(1, 2)[:, :, None], batch, 0).view(len(video), 2 * k, t, *frames.shape[2:3], *self._square)
        frames = self._augment(frames[:, :, None], batch, 1).squeeze(2)
        return {"frames": frames, "anchor": clips[:, :k], "positive": clips[:, k:], "uid": batch["uid"].to(device)}

    @property
    def _square(self) -> tuple[int, int]:
        return self.transform.size, self.transform.size

    def _augment(self, parts: torch.Tensor, batch: dict[str, Any], stream: int) -> torch.Tensor:
        """(N, P, T, 3, H, W) uint8 -> (N, P, T, 3, S, S); each of the P parts has draws of its own."""
        count = parts.shape[1]
        seeds = [derive_seed(seed, stream, part) for seed in batch["seed"].tolist() for part in range(count)]
        size = batch["size"].repeat_interleave(count, 0)
        views = self.transform({"video": parts.flatten(0, 1), "size": size, "seed": torch.tensor(seeds, dtype=torch.int64)})
        return views.unflatten(0, (-1, count))
