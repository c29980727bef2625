"""What stands in for a batch of which no video could be read."""

import itertools
from collections.abc import Callable, Iterable

from tasks.core.data.batch import Batch, size_of
from tasks.core.errors import InputError


class LastReadableBatch:
    """Keeps the last good batch, because processes must step together: its loss counts zero where it stands in.

    Args:
        loader: from the number of micro-batches to pass over, the batches of a run.
        alone: whether the run has one process.
    """

    def __init__(self, loader: Callable[[int], Iterable[Batch]], alone: bool):
        self._loader, self._alone, self._last, self._unreadable, self._any = loader, alone, None, 0, False

    def usable(self, batch: Batch) -> Batch | None:
        """The batch itself; where no video of it could be read, the last good one or, alone, nothing.

        Raises:
            InputError: a hundred batches in a row, or the first hundred of this process, held nothing.
        """
        if size_of(batch):
            self._unreadable, self._any = 0, True
            if not self._alone:
                self._last = batch
            return batch
        self._unreadable += 1
        if self._unreadable >= 100:
            raise InputError("none of the last 100 batches held a readable video", "run: vid data check MANIFEST")
        if self._alone:
            return None
        if self._last is None:
            self._last = next((spare for spare in itertools.islice(self._loader(0), 100) if size_of(spare)), None)
            self._any = self._last is not None
            self.require_any()
        return self._last

    def require_any(self) -> None:
        """Raises InputError where no batch so far held anything."""
        if not self._any:
            raise InputError("none of the videos of this training set could be read", "run: vid data check MANIFEST")
