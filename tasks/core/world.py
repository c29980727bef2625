"""Among which processes this one works: the one answer to "what is my rank"."""

import os
from typing import NamedTuple


class World(NamedTuple):
    """The processes that work together.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """The part of any list that this process works on."""
        return slice(self.rank, None, self.size)


def world() -> World:
    """The world that this process was started in, as the launcher (Accelerate, torchrun, srun) says; of one process without a launcher."""
    return World(int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1))


def joined() -> bool:
    """Whether the processes can exchange tensors: there is one only, or they have met in a process group."""
    if world().size == 1:
        return True
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def join() -> World:
    """Lets the processes of this world meet, where they have not yet, so that results can be gathered; returns the world."""
    if not joined():
        from accelerate import PartialState

        PartialState()
    return world()
