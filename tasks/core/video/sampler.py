"""The order in which videos are visited: a pure function of seed and step, so that a resumed run starts at its offset."""

from collections.abc import Iterator

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
        order: list[Key] = []
        epoch = -1
        while True:
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                order = self._epoch(epoch)
            first = step % self.steps_per_epoch * self.batch_size * self.world + self.rank * self.batch_size
            yield order[first : first + self.batch_size]
            step += 1

    def _epoch(self, epoch: int) -> list[Key]:
        copies = -(-self.batch_size * self.world // self.n_items)
        keys: list[Key] = []
        for copy in range(copies):
            draw = epoch * copies + copy
            order = np.random.default_rng([self.seed, draw]).permutation(self.n_items) if self.shuffle else np.arange(self.n_items)
            keys.extend((int(i), draw) for i in order)
        return keys


def eval_batches(n_items: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[Key]]:
    """Every row exactly once over all ranks, in order: rank r gets a contiguous share; shares differ by at most one row."""
    share = range(n_items * rank // world, n_items * (rank + 1) // world)
    return [[(i, 0) for i in share[at : at + batch_size]] for at in range(0, len(share), batch_size)]
