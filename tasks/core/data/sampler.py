"""The order in which videos are visited: a pure function of seed and step, so that a resumed run starts at its offset."""

from collections.abc import Iterator, Sequence

import numpy as np

from tasks.core.errors import InputError

Key = tuple[int, int]


class StepSampler:
    """Endless batches of (row index, epoch) for one process among `world`.

    Epoch e visits a permutation drawn from (seed, e). Global step s takes the next world * batch_size entries of it, of which rank r
    gets rows [r * batch_size, (r + 1) * batch_size): two processes with B see what one process with 2 B sees. The rest of an epoch
    that does not fill a global batch is left out. A set smaller than one global batch is repeated within it, each repetition with
    another second key, so that copies of a video differ.

    Args:
        start_step: the first global step that is yielded.
        shuffle: False: row order in every epoch.
    """

    def __init__(
        self, n_items: int, batch_size: int, rank: int = 0, world: int = 1, seed: int = 0, start_step: int = 0, shuffle: bool = True
    ):
        if n_items < 1:
            raise InputError("no videos to train on")
        self.n_items, self.batch_size, self.rank, self.world = n_items, batch_size, rank, world
        self.seed, self.start_step, self.shuffle = seed, start_step, shuffle

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in one pass over the rows; at least 1."""
        return max(1, self.n_items // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.start_step
        order = draws = np.empty(0, np.int64)
        epoch = -1
        while True:
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order, draws = self._epoch(epoch)
            first = step % self.steps_per_epoch * self.batch_size * self.world + self.rank * self.batch_size
            part = slice(first, first + self.batch_size)
            yield list(zip(order[part].tolist(), draws[part].tolist(), strict=True))
            step += 1

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and second keys of one epoch, (copies * n_items,) each."""
        copies = -(-self.batch_size * self.world // self.n_items)
        draws = range(epoch * copies, (epoch + 1) * copies)
        orders = [self._order(draw) for draw in draws]
        return np.concatenate(orders), np.repeat(draws, self.n_items)

    def _order(self, draw: int) -> np.ndarray:
        return np.random.default_rng([self.seed, draw]).permutation(self.n_items) if self.shuffle else np.arange(self.n_items)


class EvalBatches(Sequence[list[Key]]):
    """Every row exactly once over all ranks, in order: rank r gets a contiguous share; shares differ by at most one row."""

    def __init__(self, n_items: int, batch_size: int, rank: int = 0, world: int = 1):
        self.share = range(n_items * rank // world, n_items * (rank + 1) // world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.share) // self.batch_size)

    def __getitem__(self, number: int) -> list[Key]:
        first = range(len(self))[number] * self.batch_size
        return [(i, 0) for i in self.share[first : first + self.batch_size]]
