"""A loader that survives its processes: what one of them was reading when it died or hung is skipped, and loading goes on."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tasks.core.data.sampler import Key
from tasks.core.errors import VidError

LIMIT_S = 900.0
"""An item whose reading takes longer hangs; a file met for the first time may take `guard.LIMIT_S` alone."""
MOST_DEATHS = 20
_BEAT_S = 5.0
_DYING_S = 5.0
Collate = Callable[[list[Any]], Any]
_GONE = ("exited unexpectedly", "is killed by signal")


class WatchedLoader(DataLoader):
    """A DataLoader with processes, over a data set that has `refused(key, reason)`: the sample that stands for one that cannot be read.

    A process that reads one item for more than LIMIT_S is ended. Where one has died (so, by a decoder that crashed, by the system) all are
    started anew at the batch that is due, without the item that was being read; but for it batches are as without the accident.

    Raises:
        VidError: processes died MOST_DEATHS times, or one died reading nothing; and those that the data set raises.
    """

    def __init__(self, dataset: Dataset, batch_sampler: Iterable[list[Key]], num_workers: int, collate_fn: Collate, **settings: Any):
        self._items = _Items(dataset, num_workers)
        self._batches = _From(batch_sampler)
        collate = partial(_collate, collate_fn)
        super().__init__(self._items, batch_sampler=self._batches, num_workers=num_workers, collate_fn=collate, **settings)

    def __iter__(self) -> Iterator[Any]:
        self._batches.skip = 0
        return self._watch(super().__iter__())

    def _watch(self, batches: Iterator[Any]) -> Iterator[Any]:
        taken, over = 0, threading.Event()
        threading.Thread(target=self._end_hangs, args=(over,), daemon=True).start()
        try:
            while True:
                try:
                    for batch in batches:
                        if isinstance(batch, VidError):
                            raise batch
                        taken += 1
                        yield batch
                    return
                except Exception as error:
                    if not self._died(error):
                        self._end_all()  # now: once the error's traceback is collected their queues may go before them
                        raise
                    self._blame(error)
                self._batches.skip = taken
                batches = super().__iter__()
        finally:
            over.set()

    def _end_hangs(self, over: threading.Event) -> None:
        while not over.wait(_BEAT_S):
            iterator = self._iterator
            for place in self._items.overdue() if iterator is not None else ():
                iterator._workers[place].kill()

    def _died(self, error: Exception) -> bool:
        """Whether an error means that a process is gone, not that it met something."""
        if isinstance(error, RuntimeError):
            return not str(error).startswith("Caught ") and any(sign in str(error) for sign in _GONE)
        if isinstance(error, ConnectionError | EOFError | FileNotFoundError):  # while it handed over a batch
            return bool(wait([worker.sentinel for worker in self._iterator._workers], _DYING_S))
        return False

    def _blame(self, error: Exception) -> None:
        """Ends all processes and notes what they must not read again."""
        workers = self._iterator._workers
        codes = {place: worker.exitcode for place, worker in enumerate(workers) if not worker.is_alive()}
        self._end_all()
        if not self._items.blame(codes) or len(self._items.bad) > MOST_DEATHS:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            hint = "is the memory of the machine, or /dev/shm, used up?"
            raise VidError(f"loader processes end without a word ({reason})", hint) from None

    def _end_all(self) -> None:
        for worker in self._iterator._workers:
            worker.kill()  # they ignore the signal that the loader's own end sends
        self._iterator._shutdown_workers()
        self._iterator = None


class _Items(Dataset):
    """The data set, and in shared memory what each process reads since when (`(workers, 2)`: index or -1, seconds)."""

    def __init__(self, dataset: Dataset, workers: int):
        self.dataset = dataset
        self.bad: dict[int, str] = {}
        self._reading = torch.full((workers, 2), -1.0, dtype=torch.float64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name in ("dataset", "bad", "_reading"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, key: Key) -> Any:
        if key[0] in self.bad:
            return self.dataset.refused(key, self.bad[key[0]])
        mine = self._reading[get_worker_info().id]
        mine[1], mine[0] = time.monotonic(), key[0]
        try:
            item = self.dataset[key]
        except VidError as error:  # torch would make a long text of it
            item = error
        mine[0] = -1.0
        return item

    def overdue(self) -> list[int]:
        """Places of the processes that have read one item for too long."""
        now = time.monotonic()
        return [place for place, (index, since) in enumerate(self._reading.tolist()) if index >= 0 and now - since > LIMIT_S]

    def blame(self, codes: dict[int, int | None]) -> bool:
        """Notes what dead processes (place -> exit code) were reading; False: nothing."""
        late, reading = self.overdue(), self._reading.tolist()
        self._reading[:, 0] = -1.0
        found = {int(reading[place][0]): place for place in codes if reading[place][0] >= 0}
        for index, place in found.items():
            ended = f"a loader process ended (exit {codes[place]}) while reading it"
            self.bad[index] = f"reading it did not end within {LIMIT_S:g} s" if place in late else ended
        return bool(found)


def _collate(collate: Collate, samples: list[Any]) -> Any:
    """The batch, or the first error among its samples."""
    return next((sample for sample in samples if isinstance(sample, VidError)), None) or collate(samples)


class _From:
    """Batches of keys, the first `skip` of them passed over."""

    def __init__(self, batches: Iterable[list[Key]]):
        self._all = batches
        self.skip = 0

    def __iter__(self) -> Iterator[list[Key]]:
        return itertools.islice(iter(self._all), self.skip, None)

    def __len__(self) -> int:
        return len(self._all)

    def __getattr__(self, name: str) -> Any:
        if name in ("_all", "skip"):
            raise AttributeError(name)
        return getattr(self._all, name)
