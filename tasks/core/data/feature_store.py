"""The features of a whole data set in one block of shared memory (`data.preload`)."""

from collections.abc import Iterable

import torch

from tasks.core.data.feature_files import FeatureError
from tasks.core.data.features import FeatureFolder, Features
from tasks.core.data.grid import Grid
from tasks.core.data.memory import require_memory


class FeatureStore:
    """Features of some videos of a folder, which worker processes see without a copy.

    Args:
        folder: where they are.
        names: of the videos, each read once.

    Raises:
        UsageError: they need more memory than the machine has free.
    """

    def __init__(self, folder: FeatureFolder, names: Iterable[str]):
        self._failed: dict[str, FeatureError] = {}
        self._places: dict[str, tuple[int, int, Grid]] = {}
        read, offset = [], 0
        for name in dict.fromkeys(names):
            try:
                found = folder.get(name)
            except FeatureError as error:
                self._failed[name] = error
                continue
            read.append(found.values)
            self._places[name] = (offset, len(found.values), found.grid)
            offset += len(found.values)
        item = max((values.dtype.itemsize for values in read), default=4)
        require_memory(offset * folder.dim * item, "set data.preload=false, or extract features with --dtype float16")
        kind = {2: torch.float16, 4: torch.float32, 8: torch.float64}[item]
        self._block = torch.empty((offset, folder.dim), dtype=kind).share_memory_()
        while read:  # from the end, so that what is copied is let go
            values = read.pop()
            offset -= len(values)
            self._block.numpy()[offset : offset + len(values)] = values

    def memory_bytes(self) -> int:
        """Bytes of shared memory held."""
        return self._block.numel() * self._block.element_size()

    def get(self, name: str) -> Features:
        """As `FeatureFolder.get`."""
        if name in self._failed:
            raise self._failed[name]
        first, n, grid = self._places[name]
        return Features(self._block[first : first + n].numpy(), grid)
