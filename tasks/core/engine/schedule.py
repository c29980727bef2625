"""Learning rate as a pure function of the step."""

import math
from dataclasses import dataclass

from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.method import Method


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from `warmup_lr` to `lr`, then half a cosine down to `min_lr`, a constant, or falls at milestones.

    Warm-up and cosine are those of VideoMAE's public schedule: step s < warmup_steps lies on the line through (0, warmup_lr) and
    (warmup_steps - 1, lr), and the remaining n steps lie on the cosine at i / n, i = 0 .. n - 1. `min_lr` is therefore approached but
    first reached at step total_steps.

    Args:
        lr: peak learning rate, after scaling as all others.
        total_steps: optimizer steps of the run.
        warmup_steps: of them.
        min_lr: at the end of the cosine.
        warmup_lr: at step 0.
        kind: `cosine`, `constant` or `steps`.
        milestones: `steps`: the first steps at which the learning rate is another factor `gamma` lower.
        gamma: that factor.
    """

    lr: float
    total_steps: int
    warmup_steps: int = 0
    min_lr: float = 0.0
    warmup_lr: float = 0.0
    kind: str = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __call__(self, step: int) -> float:
        """Learning rate to use for optimizer step `step` (0-based)."""
        if step < self.warmup_steps:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / max(1, self.warmup_steps - 1)
        if self.kind != "cosine":
            return self.lr * self.gamma ** sum(step >= milestone for milestone in self.milestones)
        span = max(1, self.total_steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / span)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1 + math.cos(math.pi * done))


def scaled(value: float, global_batch: int, scale: bool) -> float:
    """Linear scaling rule: `value * global_batch / 256` when `scale` is set."""
    return value * global_batch / 256 if scale else value


def run_length(train: TrainConfig, micro_per_epoch: int) -> tuple[int, int]:
    """(optimizer steps per epoch, total steps)."""
    per_epoch = max(1, micro_per_epoch // train.accumulate)
    total = per_epoch * train.epochs
    return per_epoch, min(total, train.max_steps) if train.max_steps else total


def schedules(method: Method, optim: OptimConfig, global_batch: int, per_epoch: int, total: int) -> dict[str, Schedule]:
    """One schedule per optimizer; a further optimizer keeps the main one's shape (warm-up length, floor relative to its peak)."""
    milestones = tuple(round(epoch * per_epoch) for epoch in optim.milestones)
    warmup = min(round(optim.warmup_epochs * per_epoch), max(0, total - 1))
    made = {}
    for name, spec in method.optimizers().items():
        share = spec.base_lr / optim.base_lr
        lr, low, first = (scaled(v, global_batch, optim.scale_lr) for v in (spec.base_lr, optim.min_lr * share, optim.warmup_lr * share))
        made[name] = Schedule(lr, total, warmup, low, first, optim.schedule, milestones, optim.gamma)
    return made
