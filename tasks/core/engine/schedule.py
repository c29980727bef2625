"""Learning rate as a pure function of the step."""

import math
from dataclasses import dataclass

from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.method import Method


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up from `warmup_lr` to `lr`, then half a cosine down to `min_lr` at the last step.

    Values are those of VideoMAE's public schedule: step s < warmup_steps lies on the line through (0, warmup_lr) and (warmup_steps -
    1, lr),
    and the remaining n steps lie on the cosine at i / n, i = 0 .. n - 1. `min_lr` is therefore approached but first reached at step
    total_steps.

    Args:
        lr, min_lr, warmup_lr: learning rates after scaling. warmup_steps, total_steps: optimizer steps.
    """

    lr: float
    total_steps: int
    warmup_steps: int = 0
    min_lr: float = 0.0
    warmup_lr: float = 0.0

    def __call__(self, step: int) -> float:
        """Learning rate to use for optimizer step `step` (0-based)."""
        if step < self.warmup_steps:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / max(1, self.warmup_steps - 1)
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


def schedules(method: Method, optim: OptimConfig, global_batch: int, per_epoch: int, total: int) -> dict[str, WarmupCosine]:
    """One schedule per optimizer; a further optimizer keeps the main one's shape (warm-up length, floor relative to its peak)."""
    warmup = min(round(optim.warmup_epochs * per_epoch), max(0, total - 1))
    made = {}
    for name, spec in method.optimizers().items():
        share = spec.base_lr / optim.base_lr
        lr, low, first = (scaled(v, global_batch, optim.scale_lr) for v in (spec.base_lr, optim.min_lr * share, optim.warmup_lr * share))
        made[name] = WarmupCosine(lr, total, warmup, low, first)
    return made
