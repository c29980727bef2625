"""The contract between the training loop and a method: what a method must offer, and what the loop tells it."""

from dataclasses import dataclass

import torch
from torch import nn

from tasks.core.engine.config import OptimConfig
from tasks.core.engine.optim import Group
from tasks.core.engine.random import BatchRandom

MAIN = "main"


@dataclass(frozen=True)
class Progress:
    """Where a run stands, as the method sees it.

    Attributes:
        step: optimizer steps done so far (0-based number of the present one).
        epoch: whole epochs done.
        steps_per_epoch, total_steps: length of the run.
    """

    step: int
    epoch: int
    steps_per_epoch: int
    total_steps: int


@dataclass
class OptimizerSpec:
    """One optimizer of a method. Learning rates are before scaling; the schedule's shape is shared. `eps` of Adam, None: the run's."""

    groups: list[Group]
    base_lr: float
    betas: tuple[float, float]
    clip_grad: float | None = None
    eps: float | None = None

    @classmethod
    def of(cls, groups: list[Group], optim: OptimConfig) -> "OptimizerSpec":
        """The optimizer of a configuration's `optim` section over ready groups (`core.engine.optim.make_groups`)."""
        return cls(groups, optim.base_lr, optim.betas, optim.clip_grad)


class Method(nn.Module):
    """Base of everything the loop trains.

    What a method draws at random comes from `rng`, so that a run repeats itself and two processes draw what one would. Batch norms are
    shared between processes (`core.nn.shared_norm.share_norms`), unless a paper normalises each process by itself.

    The main phase runs once per micro-batch; further phases named by `phases_after` run after the main optimizer step, each with an
    optimizer step of its own (key `optimizers()[phase]`).

    Attributes:
        shardable: weights change through the optimizers only and every layer is used by calling it, so that they may be split over
            processes (`train.shard`).
        uneven: some parameters get no gradient in some backward passes.
    """

    shardable = False
    uneven = False

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        """Losses of one micro-batch: `loss` is minimised, other entries (detached scalars) are logged. `batch` is None outside the
        main phase.
        """
        raise NotImplementedError

    def optimizers(self) -> dict[str, OptimizerSpec]:
        """Optimizers by phase; must hold `main`."""
        raise NotImplementedError

    def learns(self, progress: Progress) -> bool:
        """Whether this step changes weights; equal in every process.

        Where it does not there is a forward pass without gradients, its losses are logged, and no optimizer steps: no update, no weight
        decay, no moving average (CoCLR until its queue is full).
        """
        return True

    def phases_after(self, progress: Progress) -> list[str]:
        """Phases to run after the main step."""
        return []

    def extra_state(self) -> list[dict]:
        """State of this process beyond parameters and buffers, as nested tensors and numbers."""
        return []

    def load_extra_state(self, state: list[dict]) -> None:
        """Takes back what `extra_state` gave."""
