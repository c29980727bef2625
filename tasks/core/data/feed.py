"""Data loaders whose worker processes start and end safely, over any data set of this suite."""

import os
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from tasks.core.data.sampler import Key
from tasks.core.data.watched import WatchedLoader
from tasks.core.data.workers import begin_worker, stop_at_exit, worker_context
from tasks.core.interpreter import usable_cores


class LoaderSettings(Protocol):
    """What a loader must know of the settings of a data set; `core.clips.config.DataConfig` has it."""

    workers: int | None
    preload: bool


def default_workers(data: LoaderSettings) -> int:
    """`data.workers`, else $VID_WORKERS, else one per usable core up to 8; none for preloaded videos on a machine without a GPU."""
    if data.workers is not None:
        return data.workers
    if os.environ.get("VID_WORKERS", "").isdigit():
        return int(os.environ["VID_WORKERS"])
    cores = usable_cores()
    return 0 if data.preload and not torch.cuda.is_available() else min(8, cores)


def data_loader(
    dataset: Dataset, batches: Iterable[list[Key]], data: LoaderSettings, collate: Callable[[list], dict], seed: int = 0
) -> DataLoader:
    """A loader over any data set of this suite: workers as `data` says, started and ended safely.

    Args:
        batches: keys of `dataset` for one batch after the other.
        collate: from samples to a batch.
        seed: of the workers' global generators.
    """
    workers = default_workers(data)
    own = torch.Generator()  # the global generator stays untouched
    own.manual_seed(seed)
    watched = workers and hasattr(dataset, "refused")
    loader = (WatchedLoader if watched else DataLoader)(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=begin_worker if workers else None,
        multiprocessing_context=worker_context() if workers else None,
        persistent_workers=workers > 0,
        generator=own,
    )
    if workers:
        stop_at_exit(loader)
    return loader
