"""What the loop counts: means between two log lines, and the best evaluation so far. Both are part of a checkpoint."""

from dataclasses import dataclass, field

import torch


@dataclass
class RunningMean:
    """Means of everything logged since the last log line; part of the checkpoint so that a resumed run logs the same numbers."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def means(self) -> dict[str, float]:
        return {key: self.sums[key] / self.counts[key] for key in self.sums}


@dataclass
class BestTracker:
    """The best evaluation so far; part of the checkpoint.

    Attributes:
        step: when it was; None: there was none.
        metrics: what it gave.
        stale: evaluations since then.
    """

    step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0

    def take(self, step: int, name: str, metrics: dict[str, float]) -> bool:
        """Whether metric `name` is higher than ever."""
        if self.step is not None and not metrics[name] > self.metrics[name]:
            self.stale += 1
            return False
        self.step, self.metrics, self.stale = step, metrics, 0
        return True


def collect(logs: dict[str, torch.Tensor], losses: dict[str, torch.Tensor], parts: int) -> None:
    """Adds one micro-batch's losses to the means of a step of `parts` micro-batches."""
    for key, value in losses.items():
        logs[key] = logs.get(key, 0) + value.detach() / parts
