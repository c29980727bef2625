"""What contrastive learning sees of a video: two clips, one for the query and one for the key (thesis section 4.4)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.contrastive.config import PretrainConfig
from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.clips import ClipSampler, frame_range
from tasks.core.clips.loader import Picked
from tasks.core.data.rows import Row, Rows
from tasks.core.engine.random import derive_seed
from tasks.core.profile import moved
from tasks.core.video.reader import VideoError

_SIBLING = re.compile(r"(.*_g\d+)_c\d+")
"""UCF101 names a clip after its class, the video it was cut from (its group) and its number in there."""
_POLICY = 9
"""Tells the draws of who gets full augmentation from those of augmentation."""


@dataclass(frozen=True)
class PairPicker:
    """Draws two clips of a row, one after the other in one list of frames; or the same clip twice.

    Attributes:
        clip: of one clip.
        one_clip: probability of the same clip twice.
        min_frames: VideoError for a video with fewer frames.
        repeats: pairs per visit.
    """

    clip: ClipSampler
    one_clip: float
    min_frames: int = 1
    repeats: int = 1

    @classmethod
    def from_config(cls, config: PretrainConfig) -> "PairPicker":
        """Clips as `data.clip` says."""
        clip, pairs = config.data.clip, config.pairs
        return cls(ClipSampler.from_config(clip), pairs.one_clip, max(1, int(pairs.min_share * clip.frames)), config.data.repeats)

    def __call__(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> Picked:
        """(repeats, 2 T) frame numbers, and `one_clip` (repeats,) bool; VideoError for a video that is too short."""
        low, high = frame_range(pts, row.start_s, row.end_s)
        if high - low < self.min_frames:
            raise VideoError(row.path, f"it has {high - low} frames, fewer than {self.min_frames} (pairs.min_share)")
        one = rng.random(self.repeats) < self.one_clip
        return Picked(np.stack([self._pair(pts, rng, row, same) for same in one]), {"one_clip": one})

    def _pair(self, pts: np.ndarray, rng: np.random.Generator, row: Row, same: bool) -> np.ndarray:
        first, second = (self.clip.train(len(pts), pts, rng, row.start_s, row.end_s) for _ in range(2))
        return np.concatenate([first, first if same else second])


class PairViews:
    """From a batch of picked frames to augmented pairs; every choice depends on the clip's entry of `batch["seed"]` alone.

    Of one clip twice, one side, drawn, gets the whole augmentation, the other crop and flip alone; of two clips each gets the whole with
    probability `pairs.full`. Frames and flow of a clip are cropped and flipped alike.

    Args:
        config: of the run.
        sources: (rows,) int64, the source video of each row, as `source_numbers` gives.
        labelled: whether rows have labels.
    """

    def __init__(self, config: PretrainConfig, sources: np.ndarray, labelled: bool = False):
        self.full, self.labelled = config.pairs.full, labelled
        self.sources = torch.from_numpy(sources)
        bare = config.augment.model_copy(update={"color": 0.0, "gray": 0.0, "blur": 0.0})
        self.transforms = [TrainTransform(augment, config.model.image_size) for augment in (bare, config.augment)]

    def __call__(self, batch: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
        """Augments on `device`.

        Args:
            batch: `video` (N, 2 T, C, H, W) uint8, `size`, `seed`, `uid`, `label`, `one_clip` as from the loader; perhaps `flow` with
                `flow_size`.

        Returns:
            `video` (N, 2, T, C, S, S) float32, normalised, and `flow` likewise where it came in; `source` (N,) int64; of labelled rows
            `label` (N,) int64, -1 for those that have none.
        """
        batch = moved(batch, device)
        streams = [name for name in ("video", "flow") if name in batch]
        pairs = {name: batch[name].unflatten(1, (2, -1)).flatten(0, 1) for name in streams}
        twice = {name: batch[name].repeat_interleave(2, 0) for name in ("size", "flow_size") if name in batch}
        seeds = [derive_seed(seed, side) for seed in batch["seed"].tolist() for side in range(2)]
        whole = {**pairs, **twice, "seed": torch.tensor(seeds, dtype=torch.int64), "modality": batch.get("modality", "rgb")}
        out = self._augmented(whole, self.chosen(batch["seed"].tolist(), batch["one_clip"].tolist()).flatten(), streams)
        numbers = {"source": self.sources[batch["uid"]].to(device)} | ({"label": batch["label"].to(device)} if self.labelled else {})
        return {**{name: tensor.unflatten(0, (-1, 2)) for name, tensor in out.items()}, **numbers}

    def chosen(self, seeds: list[int], one_clip: list[bool]) -> torch.Tensor:
        """(N, 2) bool: which sides of the pairs get the whole augmentation."""
        draws = np.array([np.random.default_rng(derive_seed(seed, _POLICY)).random(2) for seed in seeds]).reshape(-1, 2)
        first = draws[:, 0] < 0.5
        sides = np.where(np.array(one_clip, bool).reshape(-1, 1), np.stack([first, ~first], 1), draws < self.full)
        return torch.from_numpy(sides)

    def _augmented(self, whole: dict[str, Any], full: torch.Tensor, streams: list[str]) -> dict[str, torch.Tensor]:
        """Clips (2 N, T, C, H, W) by the transform that `full` (2 N,) says for each."""
        parts = {}
        for transform, places in zip(self.transforms, (~full, full), strict=True):
            rows = places.nonzero()[:, 0]
            if len(rows):
                tensors = {name: value[rows.to(value.device)] for name, value in whole.items() if isinstance(value, torch.Tensor)}
                parts[rows] = transform.streams({**tensors, "modality": whole["modality"]})
        if not parts:
            return self.transforms[0].streams(whole)
        back = torch.cat(list(parts)).argsort()
        return {name: torch.cat([part[name] for part in parts.values()])[back.to(whole[name].device)] for name in streams}


def source_numbers(rows: Rows, siblings: bool) -> np.ndarray:
    """(rows,) int64: equal for rows of one file and, with `siblings`, for clips that UCF101 cut from one video (`..._g08_c01`)."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(_source(path, siblings), len(numbers)) for path in rows.values("path")), np.int64, len(rows))


def _source(path: str, siblings: bool) -> str:
    group = _SIBLING.fullmatch(Path(path).stem) if siblings else None
    return group[1] if group else path
