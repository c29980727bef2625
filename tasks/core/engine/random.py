"""Randomness as a pure function of (seed, step): nothing to save, nothing to restore, equal for any number of processes."""

from collections.abc import Sequence

import numpy as np
import torch

STREAMS = {"method": 1, "global": 2, "init": 3}


def derive_seed(*parts: int) -> int:
    """A 63-bit seed that depends on every part (non-negative integers) and on their order."""
    words = np.random.SeedSequence([int(p) for p in parts]).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])


class BatchRandom:
    """Random numbers for the rows of this process within a global batch.

    Every process draws the whole global batch from the same generator and keeps its own rows, so `world` processes with B clips each use
    the numbers that one process with world x B clips would use.

    Args:
        seed: run seed.
        step: optimizer step (0-based), micro: micro-batch within it.
        rows: rows of this process at full batch size.
        rank, world: place of this process.
    """

    def __init__(
        self, seed: int, step: int, micro: int = 0, rows: int = 1, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
    ):
        self.rows, self.rank, self.world = rows, rank, world
        self.device = torch.device(device)
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(derive_seed(seed, STREAMS["method"], step, micro))

    def rand(self, n: int, *shape: int) -> torch.Tensor:
        """`(n, *shape)` float32 uniform in [0, 1); n may be below `rows` where videos were skipped."""
        if n > self.rows:
            raise ValueError(f"{n} rows asked of a generator made for {self.rows}")
        full = torch.rand((self.rows * self.world, *shape), generator=self.generator, device=self.device)
        return full[self.rank * self.rows :][:n]

    def shared_index(self, high: int) -> int:
        """One integer in [0, high) that every process draws alike (without a device synchronisation)."""
        cpu = np.random.default_rng(self.generator.initial_seed())
        return int(cpu.integers(high))


def seed_global(seed: int, step: int, rank: int, also: Sequence[int] = ()) -> None:
    """Seed torch's global generators (dropout, drop-path) for one step of one process."""
    torch.manual_seed(derive_seed(seed, STREAMS["global"], step, rank, *also))
