"""From rows of a manifest to batches of features: crop, pad, mask, times; samples do not depend on the number of workers."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from tasks.core.data.feature_batch import FeatureSample, Piece, collate
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.feature_files import FeatureError
from tasks.core.data.feature_store import FeatureStore
from tasks.core.data.features import FeatureFolder, Features
from tasks.core.data.feed import data_loader
from tasks.core.data.rows import Row, Rows
from tasks.core.data.sampler import EvalBatches, Key, StepSampler
from tasks.core.data.streams import resample
from tasks.core.errors import UsageError

Item = Row | tuple[str, Sequence[Row]]
"""A timed thing, or a video with all of its timed things (`Rows.grouped()`)."""
Cropper = Callable[[np.ndarray, int, np.random.Generator, Sequence[Row]], int]
"""From times (n, 2), seconds, a length below n, a generator and the rows of the item to the first feature of a crop. Must be picklable."""


class FeatureDataset(Dataset):
    """Items as pieces of features. The one for (index, epoch) is a pure function of (seed, epoch, index) and the files.

    An item that is a row is the features whose middle lies between its start and end; a video with its rows is all of its features.
    In training a piece is `data.repeats` random crops of `data.max_length` features at most, in testing everything, or windows.

    Args:
        items: rows, or `rows.grouped()`.
        data: lengths, alignment, preload.
        folders: of `open_streams`; the first sets the grid.
        labels: class names in the order of their numbers; None: every label is -1.
        mode: `train` or `test`.
        seed: of all random choices.
        crop: chooses the crops instead of a random draw.

    Raises:
        UsageError: no item has features, or two videos would get those of one.
    """

    def __init__(
        self,
        items: Sequence[Item],
        data: FeatureConfig,
        folders: Mapping[str, FeatureFolder],
        labels: list[str] | None = None,
        mode: str = "train",
        seed: int = 0,
        crop: Cropper | None = None,
    ):
        self.items: Sequence[Item] = Rows.of(items) if len(items) and isinstance(items[0], Row) else items
        self.data, self.folders, self.mode, self.seed, self.crop = data, dict(folders), mode, seed, crop
        self._numbers = {name: number for number, name in enumerate(labels or [])}
        self._main = next(iter(self.folders))
        paths = dict.fromkeys(self.items.values("path") if isinstance(self.items, Rows) else (path for path, _ in self.items))
        for name, folder in self.folders.items():
            _check_any(self.items, folder, name)
            _check_names(paths, folder)
        self.stores = {name: _stored(self.items, folder) for name, folder in self.folders.items()} if data.preload else {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> FeatureSample:
        index, epoch = key
        item = self.items[index]
        row, rows = _whole(item)
        sample = FeatureSample(index, row.path, -1 if row is not item else self._number(row))
        rng = np.random.default_rng([self.seed, epoch, index])
        began = time.perf_counter()
        try:
            found = {name: self._read(name, row) for name in self.folders}
            grid, n = found[self._main].grid, len(found[self._main].values)
            last = grid.times(n)[-1, 1]
            if row.start_s is not None and row.start_s > last:
                raise FeatureError(row.path, f"its part begins at {row.start_s:g} s, after the last feature, which ends at {last:g} s")
            low, high = grid.part(n, row.start_s, row.end_s)
            chosen = self._choose(grid.times(n)[low:high], rng, rows)
            sample.pieces = [self._piece(row.path, found, low + start, low + stop) for start, stop in chosen]
        except FeatureError as error:
            sample.skipped = error.reason if error.path == row.path else error.message
            return sample
        if row is not item:
            sample.segments, sample.segment_labels = self._segments(rows, grid.offset_s, last)
        sample.seeds = rng.integers(0, 2**62, len(sample.pieces)).tolist()
        sample.read_s = time.perf_counter() - began
        return sample

    def refused(self, key: Key, reason: str) -> FeatureSample:
        """What stands for an item that cost the process that read it its life."""
        return FeatureSample(key[0], _whole(self.items[key[0]])[0].path, -1, skipped=reason)

    def _number(self, row: Row) -> int:
        return self._numbers.get(row.label, -1)

    def _read(self, name: str, row: Row) -> Features:
        folder = self.folders[name]
        found = folder.find(row)
        return self.stores[name].get(found) if self.stores else folder.get(found)

    def _choose(self, times: np.ndarray, rng: np.random.Generator, rows: Sequence[Row]) -> list[tuple[int, int]]:
        """[first, last + 1) of every piece among the features at these times (n, 2)."""
        n, length = len(times), self.data.max_length
        training = self.mode == "train"
        copies = self.data.repeats if training else 1
        if length is None or n <= length or (not training and self.data.test == "whole"):
            return [(0, n)] * copies
        if training:
            starts = [
                int(rng.integers(n - length + 1)) if self.crop is None else self.crop(times, length, rng, rows) for _ in range(copies)
            ]
        else:
            hop = max(1, round(length * (1 - self.data.overlap)))
            starts = [*range(0, n - length, hop), n - length]
        return [(start, start + length) for start in starts]

    def _piece(self, path: str, found: Mapping[str, Features], first: int, stop: int) -> Piece:
        grid = found[self._main].grid
        streams, known = {self._main: np.array(found[self._main].values[first:stop], np.float32)}, {}
        middles = grid.centers(stop)[first:]
        how = "linear" if self.data.align == "linear" else "nearest"
        for name in list(found)[1:]:
            streams[name], known[name] = resample(found[name], middles, how)
        for name, values in streams.items():
            if not np.isfinite(values).all():
                raise FeatureError(path, f"its features of the stream {name} are not all finite")
        return Piece(first, grid.times(stop)[first:], streams, known)

    def _segments(self, rows: Sequence[Row], begin: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        rows = list(rows)
        times = [(begin if row.start_s is None else row.start_s, end if row.end_s is None else row.end_s) for row in rows]
        return np.array(times, np.float32).reshape(-1, 2), np.array([self._number(row) for row in rows], np.int64)


def _whole(item: Item) -> tuple[Row, Sequence[Row]]:
    """(what is read, the rows that belong to it)."""
    return (item, [item]) if isinstance(item, Row) else (Row(item[0]), item[1])


def _check_any(items: Sequence[Item], folder: FeatureFolder, stream: str) -> None:
    """UsageError where no item has features."""
    missing = None
    for item in items:
        try:
            folder.find(_whole(item)[0])
            return
        except FeatureError as error:
            missing = missing or error
    if missing:
        raise UsageError(f"none of {len(items)} has features in the stream {stream}; {missing.message}")


def _check_names(paths: Iterable[str], folder: FeatureFolder) -> None:
    """UsageError where two videos would get the same features."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        alike[os.path.splitext(os.path.basename(path))[0]].append(path)
    for several in alike.values():
        taken: dict[str, str] = {}
        for path in several if len(several) > 1 else ():
            with suppress(FeatureError):  # it is skipped, with the reason, where it is asked for
                name = folder.find(Row(path))
                if (other := taken.setdefault(name, path)) != path:
                    raise UsageError(
                        f"{other} and {path} would both get the features {name} of {folder.path}",
                        "extract features of both in one command: then each gets a name of its own",
                    )


def _stored(items: Sequence[Item], folder: FeatureFolder) -> FeatureStore:
    names = []
    for item in items:
        with suppress(FeatureError):
            names.append(folder.find(_whole(item)[0]))
    return FeatureStore(folder, names)


def make_train_loader(
    items: Sequence[Item],
    data: FeatureConfig,
    folders: Mapping[str, FeatureFolder],
    labels: list[str] | None,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    seed: int = 0,
    start_step: int = 0,
    shuffle: bool = True,
    crop: Cropper | None = None,
) -> DataLoader:
    """Endless training batches from global step `start_step` on; `loader.batch_sampler.steps_per_epoch` tells the length of an epoch.

    Args:
        items, data, folders, labels, crop: as for `FeatureDataset`.
        batch_size: items per process; a batch holds batch_size * data.repeats pieces less the unreadable.
    """
    sampler = StepSampler(len(items), batch_size, rank, world, seed, start_step, shuffle)
    return data_loader(FeatureDataset(items, data, folders, labels, "train", seed, crop), sampler, data, _collate(data), seed)


def make_eval_loader(
    items: Sequence[Item],
    data: FeatureConfig,
    folders: Mapping[str, FeatureFolder],
    labels: list[str] | None,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """One ordered pass: every item exactly once over all ranks, whole or in windows.

    Ranks may differ by one batch, so results are gathered after the loop, not inside it.
    """
    dataset = FeatureDataset(items, data, folders, labels, "test")
    return data_loader(dataset, EvalBatches(len(items), batch_size, rank, world), data, _collate(data))


def _collate(data: FeatureConfig) -> Callable[[list[FeatureSample]], dict[str, Any]]:
    return partial(collate, length=data.max_length if data.pad == "max_length" else 0, multiple_of=data.multiple_of)
