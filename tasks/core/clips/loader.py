"""From rows to uint8 batches: the dataset, its collation, and loaders whose samples do not depend on the number of workers."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tasks.core.clips.clips import ClipSampler
from tasks.core.clips.config import DataConfig
from tasks.core.clips.store import FrameStore
from tasks.core.data.feed import data_loader
from tasks.core.data.rows import Row, Rows
from tasks.core.data.sampler import EvalBatches, Key, StepSampler
from tasks.core.profile import span
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader

_OPEN_READERS = 4
MAX_WINDOWS = 512
"""Half-overlapping windows of one video: all of them are in memory at once."""


@dataclass
class Picked:
    """What a picker chose from one video.

    Attributes:
        frames: (clips, T) int64 frame numbers.
        values: name -> (clips, ...), numbers about the clips (targets, times); they appear in the batch under their names.
    """

    frames: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)


Picker = Callable[[np.ndarray, np.random.Generator, Row], Picked]
"""From presentation times (n,), seconds, a generator and the row to what is read of it. Must be picklable, and make as many clips from
every row."""


@dataclass
class Sample:
    """What one row gives: clips (T, H, W, 3) uint8 with their augmentation seeds, or the reason why there are none.

    Where there are two streams, `flow` holds as many clips (T, h, w, C) uint8 of the same frames. `modality`: `rgb`, or `flow` where the
    clips are flow, (T, h, w, C). `boxes`: of each clip (T, 4) float32 px, where they are asked for; `still`: whether nothing moves in it.
    """

    uid: int
    path: str
    label: int
    clips: list[np.ndarray] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: str | None = None
    read_s: float = 0.0
    flow: list[np.ndarray] = field(default_factory=list)
    modality: str = "rgb"
    boxes: list[np.ndarray] = field(default_factory=list)
    still: list[bool] = field(default_factory=list)
    box_control: str | None = None


class ClipDataset(Dataset):
    """Rows as clips. The item for (index, epoch) is a pure function of (seed, epoch, index) and the file.

    Args:
        rows: what to read.
        data: clip, decoder, short side, repeats, preload, flow and box settings.
        labels: class names in the order of their numbers; None: every label is -1.
        mode: `train`, `data.repeats` random clips a row, or `views`, `n_clips` fixed ones (None: half-overlapping windows over all of it).
        seed: of all random choices.
        picker: chooses the frames instead of `mode`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        data: DataConfig,
        labels: list[str] | None,
        mode: str = "train",
        n_clips: int | None = 1,
        seed: int = 0,
        picker: Picker | None = None,
    ):
        self.rows, self.data, self.mode, self.n_clips, self.seed, self.picker = Rows.of(rows), data, mode, n_clips, seed, picker
        self._numbers = {name: number for number, name in enumerate(labels or [])}
        self._sampler = ClipSampler.from_config(data.clip)
        self._readers: OrderedDict[str, VideoReader] = OrderedDict()
        self._flow = None
        if data.flow is not None:
            from tasks.core.clips.flow_source import FlowSource

            self._flow = FlowSource(data.flow)
        self._boxes = None
        if data.boxes is not None:
            from tasks.core.clips.box_source import BoxSource

            self._boxes = BoxSource(data.boxes)
        self._modality = "flow" if data.flow and not data.flow.frames else "rgb"
        self.store = FrameStore(self.rows.values("path"), data.short_side, self._open) if data.preload else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": OrderedDict()}

    def __getitem__(self, key: Key) -> Sample:
        index, epoch = key
        row = self.rows[index]
        sample = Sample(index, row.path, self._numbers.get(row.label, -1), modality=self._modality)
        rng = np.random.default_rng([self.seed, epoch, index])
        began = time.perf_counter()
        try:
            with span("read and decode"):
                reader = self.store.video(row.path) if self.store else self._reader(row.path)
                picked = self._choose(reader.pts, rng, row)
                sample.values = picked.values
                self.read_clips(sample, reader, picked.frames)
        except VideoError as error:
            self._readers.pop(row.path, None)
            sample.skipped = error.reason
            return sample
        sample.read_s = time.perf_counter() - began
        sample.seeds = rng.integers(0, 2**62, len(picked.frames)).tolist()
        return sample

    def read_clips(self, sample: Sample, reader: Any, chosen: np.ndarray) -> None:
        """Puts clips into a sample, with flow and boxes where the settings ask for them.

        Args:
            sample: of the video; its path says which flow and boxes are its own.
            reader: the open video.
            chosen: (clips, T) int64 frame numbers.

        Raises:
            VideoError: the video cannot be decoded.
        """
        frames, back = np.unique(chosen, return_inverse=True)
        flow = self._flow.pictures(reader, sample.path, frames) if self._flow else None
        if self._modality == "flow":
            pictures, flow = flow, None
        else:
            pictures = self.store.get(sample.path, frames) if self.store else reader.get(frames, self.data.short_side)
        back = back.reshape(chosen.shape)
        sample.clips = [pictures[numbers] for numbers in back]
        sample.flow = [] if flow is None else [flow[numbers] for numbers in back]
        if self._boxes:
            self._find_boxes(sample, reader, chosen)

    def _find_boxes(self, sample: Sample, reader: Any, chosen: np.ndarray) -> None:
        found = [self._boxes.of_clip(sample.path, reader, numbers, clip) for numbers, clip in zip(chosen, sample.clips, strict=True)]
        sample.boxes, sample.still = [boxes for boxes, _ in found], [still for _, still in found]
        sample.box_control = self._boxes.control

    def refused(self, key: Key, reason: str) -> Sample:
        """What stands for an item that cost the process that read it its life."""
        return Sample(key[0], self.rows[key[0]].path, -1, skipped=reason, modality=self._modality)

    def _choose(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> Picked:
        if row.start_s is not None and row.start_s > pts[-1]:
            raise VideoError(row.path, f"its part begins at {row.start_s:g} s, after the last frame at {pts[-1]:g} s")
        if self.picker is not None:
            return self.picker(pts, rng, row)
        if self.mode == "views" and self.n_clips is None:
            return Picked(self._windows(pts, row))
        if self.mode == "views":
            return Picked(self._sampler.views(len(pts), pts, self.n_clips, row.start_s, row.end_s))
        return Picked(np.stack([self._sampler.train(len(pts), pts, rng, row.start_s, row.end_s) for _ in range(self.data.repeats)]))

    def _windows(self, pts: np.ndarray, row: Row) -> np.ndarray:
        found = list(self._sampler.half_overlapping(len(pts), pts, row.start_s, row.end_s))
        if len(found) > MAX_WINDOWS:
            raise VideoError(
                row.path, f"it has {len(found)} half-overlapping windows, more than {MAX_WINDOWS}: give parts of it (start,end)"
            )
        return np.stack(found)

    def _open(self, path: str) -> VideoReader:
        threads = 1 if get_worker_info() is not None or self.data.preload else None
        return open_video(path, self.data.decoder, threads=threads)

    def _reader(self, path: str) -> VideoReader:
        if path in self._readers:
            self._readers.move_to_end(path)
            return self._readers[path]
        reader = self._open(path)
        self._readers[path] = reader
        if len(self._readers) > _OPEN_READERS:
            self._readers.popitem(last=False)[1].close()
        return reader


def collate(samples: list[Sample]) -> dict[str, Any]:
    """Stack samples, zero-padded on the right and at the bottom to the largest picture.

    Returns:
        main, `video`: the name of what follows; video (N, T, C, H, W) uint8, in memory channels last;
        size (N, 2) int64, valid height and width; label, uid, seed, clip (N,) int64;
        path, N names; skipped, (path, reason) of rows that could not be read; read_s, the
        seconds that reading took; modality, `rgb` or `flow`: what `video` holds; flow (N, T, C, h, w) uint8 and flow_size (N, 2) of two
        streams; boxes (N, T, 4) float32 px and still (N,) bool where boxes are asked for, box_control where it is set; and a picker's
        values, (N, ...). N = 0, and no flow, boxes and values, where none could.
    """
    good = [sample for sample in samples if sample.skipped is None]
    counts = [len(sample.clips) for sample in good]
    video, sizes = _stacked([clip for sample in good for clip in sample.clips])
    flow, flow_sizes = _stacked([clip for sample in good for clip in sample.flow])
    streams = {"flow": flow, "flow_size": flow_sizes} if len(flow) else {}
    if boxes := [each for sample in good for each in sample.boxes]:
        streams["boxes"] = torch.from_numpy(np.stack(boxes))
        streams["still"] = torch.tensor([still for sample in good for still in sample.still])
        streams |= {"box_control": good[0].box_control} if good[0].box_control else {}

    def spread(values: list[int]) -> torch.Tensor:
        return torch.tensor([v for v, count in zip(values, counts, strict=True) for _ in range(count)], dtype=torch.int64)

    values = {name: torch.from_numpy(np.concatenate([sample.values[name] for sample in good])) for name in (good[0].values if good else ())}
    return {
        **values,
        "main": "video",
        **streams,
        "video": video,
        "modality": samples[0].modality if samples else "rgb",
        "size": sizes,
        "label": spread([sample.label for sample in good]),
        "uid": spread([sample.uid for sample in good]),
        "seed": torch.tensor([seed for sample in good for seed in sample.seeds], dtype=torch.int64),
        "clip": torch.tensor([view for count in counts for view in range(count)], dtype=torch.int64),
        "path": [sample.path for sample in good for _ in sample.clips],
        "skipped": [(sample.path, sample.skipped) for sample in samples if sample.skipped is not None],
        "read_s": sum(sample.read_s for sample in samples),
    }


def _stacked(clips: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (T, H, W, C) as (N, T, C, H, W), padded, and the valid sizes (N, 2)."""
    sizes = torch.tensor([clip.shape[1:3] for clip in clips], dtype=torch.int64).reshape(-1, 2)
    frames, channels = (len(clips[0]), clips[0].shape[3]) if clips else (0, 3)
    height, width = sizes.max(0).values.tolist() if clips else (0, 0)
    same = bool((sizes == sizes[:1]).all())
    video = (torch.empty if same else torch.zeros)((len(clips), frames, height, width, channels), dtype=torch.uint8)
    video = video.permute(0, 1, 4, 2, 3)
    for place, clip in zip(video, clips, strict=True):
        place[..., : clip.shape[1], : clip.shape[2]] = torch.from_numpy(clip).permute(0, 3, 1, 2)
    return video, sizes


def make_train_loader(
    rows: Sequence[Row],
    data: DataConfig,
    labels: list[str] | None,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    seed: int = 0,
    start_step: int = 0,
    shuffle: bool = True,
    picker: Picker | None = None,
) -> DataLoader:
    """Endless training batches from global step `start_step` on; `loader.batch_sampler.steps_per_epoch` tells the length of an epoch.

    Args:
        batch_size: rows per process; a batch holds batch_size * data.repeats clips less the unreadable.
        picker: chooses the frames of a row instead of `data.clip`.
    """
    sampler = StepSampler(len(rows), batch_size, rank, world, seed, start_step, shuffle)
    return data_loader(ClipDataset(rows, data, labels, "train", seed=seed, picker=picker), sampler, data, collate, seed)


def make_eval_loader(
    rows: Sequence[Row],
    data: DataConfig,
    labels: list[str] | None,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    n_clips: int | None = 1,
) -> DataLoader:
    """One ordered pass: every row exactly once over all ranks, `n_clips` fixed clips each (None: half-overlapping windows over all of it).

    Ranks may differ by one batch, so results are gathered after the loop, not inside it.
    """
    return data_loader(ClipDataset(rows, data, labels, "views", n_clips), EvalBatches(len(rows), batch_size, rank, world), data, collate)
