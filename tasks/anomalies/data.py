"""Training clips: every run of consecutive frames, or of flow, and for some of them the pseudo-anomaly that goes in instead."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tasks.anomalies.config import FlowConfig, whole_frames
from tasks.anomalies.footage import Footage
from tasks.anomalies.objective import paired, replaced
from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.config import DataConfig
from tasks.core.clips.loader import ClipDataset, Sample, collate
from tasks.core.data.batch import Batch
from tasks.core.data.feed import data_loader
from tasks.core.data.manifest import Row
from tasks.core.data.sampler import Key, StepSampler
from tasks.core.flow.flow import encode_flow
from tasks.core.profile import moved
from tasks.core.video.reader import VideoError


def all_clips(footage: list[Footage], length: int) -> np.ndarray:
    """(clips, 2) int64: number of the video, first frame."""
    return np.array([(video, first) for video, item in enumerate(footage) for first in item.starts(length)], np.int64).reshape(-1, 2)


class FrameClips(ClipDataset):
    """Clips of frames. The item for (index, epoch) is a pure function of (seed, epoch, index) and the files.

    A sample has the normal clip and, with probability p where the video has twins, the same frames of its twin after it.
    """

    def __init__(self, footage: list[Footage], data: DataConfig, length: int, p: float, seed: int):
        twins = [item.frames for item in footage if item.frames and p > 0]
        super().__init__([Row(path) for path in (*(item.path for item in footage), *twins)], data, None, seed=seed)
        self.footage, self.length, self.p = footage, length, p
        self.clips = all_clips(footage, length)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> Sample:
        index, epoch = key
        video, first = self.clips[index].tolist()
        item = self.footage[video]
        numbers = np.arange(first, first + self.length)
        sample = Sample(index, item.path, -1)
        rng = np.random.default_rng([self.seed, epoch, index])
        chosen = [(item.path, numbers)]
        if item.frames and replaced(rng, self.p):
            chosen.append((item.frames, numbers - item.first))
        try:
            sample.clips = [self._pictures(path, wanted) for path, wanted in chosen]
        except VideoError as error:
            sample.path, sample.skipped = error.path, error.reason
            return sample
        sample.seeds = [0] * len(chosen)
        return sample

    def refused(self, key: Key, reason: str) -> Sample:
        return Sample(key[0], self.footage[self.clips[key[0]][0]].path, -1, skipped=reason)

    def _pictures(self, path: str, numbers: np.ndarray) -> np.ndarray:
        if self.store:
            return self.store.get(path, numbers)
        return self._reader(path).get(numbers, self.data.short_side)


class FlowClips(Dataset):
    """Clips of flow from the files of `prepare.flow_files`, twins drawn as by `FrameClips`."""

    def __init__(self, footage: list[Footage], files: list[tuple[Path, Path | None]], length: int, p: float, seed: int):
        self.footage, self.files, self.length, self.p, self.seed = footage, files, length, p, seed
        self.clips = all_clips(footage, length)
        self._open: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def __getitem__(self, key: Key) -> tuple[str, list[np.ndarray]]:
        """The video's path and (T, 2, S, S) float16 of the clip, then of its twin where it was drawn."""
        index, epoch = key
        video, first = self.clips[index].tolist()
        normal, pseudo = self.files[video]
        rng = np.random.default_rng([self.seed, epoch, index])
        chosen = [normal, pseudo] if pseudo and replaced(rng, self.p) else [normal]
        start = first - self.footage[video].low
        return self.footage[video].path, [self._flow(file)[start : start + self.length] for file in chosen]

    def _flow(self, file: Path) -> np.ndarray:
        if file not in self._open:
            self._open[file] = np.load(file, mmap_mode="r")
        return self._open[file]


def collate_flow(samples: list[tuple[str, list[np.ndarray]]]) -> Batch:
    """`flow` (N + K, T, 2, S, S) float16, the main tensor, each twin behind its clip; `clip` (N + K,) int64: 0 or 1, `path`, `skipped`."""
    return {
        "main": "flow",
        "flow": torch.from_numpy(np.stack([clip for _, clips in samples for clip in clips])),
        "clip": torch.tensor([number for _, clips in samples for number in range(len(clips))]),
        "path": [path for path, _ in samples],
        "skipped": [],
    }


def frame_loader(dataset: FrameClips, batch: int, rank: int, world: int, seed: int) -> Callable[[int], Any]:
    """From the number of micro-batches to pass over to endless batches of `core.clips.loader.collate`."""
    return lambda start: data_loader(dataset, StepSampler(len(dataset), batch, rank, world, seed, start), dataset.data, collate, seed)


def flow_loader(dataset: FlowClips, data: DataConfig, batch: int, rank: int, world: int, seed: int) -> Callable[[int], Any]:
    """The same with batches of `collate_flow`."""
    return lambda start: data_loader(dataset, StepSampler(len(dataset), batch, rank, world, seed, start), data, collate_flow, seed)


def feature_loader(features: torch.Tensor, labels: torch.Tensor, batch: int, rank: int, world: int, seed: int) -> Callable[[int], Any]:
    """Endless batches of feature vectors (M, dim) with labels (M,)."""

    def batches(start: int) -> Iterator[Batch]:
        for keys in StepSampler(len(features), batch, rank, world, seed, start):
            rows = torch.tensor([index for index, _ in keys])
            yield {"main": "features", "features": features[rows], "label": labels[rows], "path": [], "skipped": []}

    return batches


def frame_batches(size: int) -> Callable[[Batch, torch.device], Batch]:
    """What makes `input` and `target`, `(N, 3, T, S, S)` in [-1, 1], from a batch of frames."""
    transform = TrainTransform(whole_frames(), size)

    def prepare(batch: Batch, device: torch.device) -> Batch:
        clips = transform(moved(batch, device)).transpose(1, 2)
        inputs, targets = paired(clips, batch["clip"])
        return {"input": inputs, "target": targets}

    return prepare


def flow_batches(config: FlowConfig) -> Callable[[Batch, torch.device], Batch]:
    """The same from a batch of flow."""

    def prepare(batch: Batch, device: torch.device) -> Batch:
        flow = moved(batch, device)["flow"].float()
        clips = encode_flow(flow, config.encoding, config.clip_px).transpose(1, 2)
        inputs, targets = paired(clips, batch["clip"])
        return {"input": inputs, "target": targets}

    return prepare
