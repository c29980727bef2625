"""What a training step of a method computes and holds, counted on tensors without numbers: the same for every method."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from tasks.core.engine.config import TrainConfig
from tasks.core.engine.counting import COPIES, Ledger, counting
from tasks.core.engine.fake import fake, fake_copy
from tasks.core.engine.method import MAIN, Method, Progress
from tasks.core.engine.random import BatchRandom

BACKWARD = "gradients"
"""The part of a ledger to which everything belongs that a backward pass makes."""

LONG = 10**6  # steps of the run that the method is told of
ROUND = 2520  # the first step counted is a multiple of it, so that what a method does every 2, 3, ... 10 steps begins anew
MOST_STEPS = 12  # after which nobody waits any longer for an optimizer that has not stepped


@dataclass(frozen=True)
class Example:
    """What is counted.

    Attributes:
        method: on the meta device.
        batch: one micro-batch as the method takes it, on the meta device; tensors have the clips first.
        moments: points of the run in [0, 1] at which its steps differ, each with the share of the run that is like it.
        picker: of the frames of a video, where they are not what `data.clip` says (`core.clips.loader.Picker`).
    """

    method: Method
    batch: dict[str, torch.Tensor]
    moments: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    picker: Callable[..., Any] | None = None

    @property
    def clips(self) -> int:
        """Clips of the micro-batch."""
        return len(next(iter(self.batch.values())))


@dataclass(frozen=True)
class Workload:
    """One micro-batch of a method in one process.

    Attributes:
        parameters: of everything that is trained or kept.
        trained: those with gradients.
        clips: of the micro-batch.
        forward: floating-point operations by part, of a forward pass of one clip; the parts are the spans of `vid ... --profile`.
        training: the same of a training step, forward and backward and what follows it, of one clip.
        held: bytes by part that the forward pass leaves for the backward pass, or a method for later steps; of all clips.
        temporary: bytes that the backward pass takes beyond `held` and all gradients, for a moment.
        copies: bytes of 16-bit copies of weights.
        batch: bytes of the micro-batch as the method takes it.
    """

    parameters: int
    trained: int
    clips: int
    forward: dict[str, float]
    training: float
    held: dict[str, int]
    temporary: int
    copies: int
    batch: int


def count_workload(example: Example, train: TrainConfig, mixed: bool) -> Workload:
    """Counts the steps of an example.

    Args:
        example: made for the clips of one process and micro-batch.
        train: epochs and accumulation of the run.
        mixed: whether matrix products are computed in 16 bits.

    Returns:
        operations averaged over the example's moments, memory of the one that takes most.
    """
    counts = [(share, _count_step(example, _moment(at, train), train.accumulate, mixed)) for at, share in example.moments]
    forward: Counter[str] = Counter()
    for share, count in counts:
        forward.update({part: share * flops for part, flops in count.forward.items()})
    training = sum(share * count.training for share, count in counts)
    largest = max((count for _, count in counts), key=lambda count: sum(count.held.values()) + count.temporary + count.copies)
    return replace(largest, forward=dict(forward), training=training)


def _moment(at: float, train: TrainConfig) -> Progress:
    """A step at this point of the run."""
    step = int(at * (LONG - 1)) // ROUND * ROUND
    return Progress(step, min(int(at * train.epochs), train.epochs - 1), LONG // train.epochs or 1, LONG)


def _count_step(example: Example, progress: Progress, accumulate: int, mixed: bool) -> Workload:
    with counting() as ledger:
        counter = _StepCounter(ledger, fake_copy(example.method).train(), fake(example.batch), example.clips, mixed)
        steps = counter.run(progress, accumulate)
    own, clips = list(example.method.parameters()), example.clips
    gradients = sum(p.numel() * p.element_size() for p in own if p.requires_grad)
    copies = counter.held[COPIES]
    held = {part: size for part, size in counter.held.items() if part not in (COPIES, BACKWARD)}
    held = {part: size for part, size in held.items() if size > sum(held.values()) / 1e4}  # not the losses themselves
    return Workload(
        parameters=sum(p.numel() for p in own),
        trained=sum(p.numel() for p in own if p.requires_grad),
        clips=clips,
        forward={part: flops / clips for part, flops in counter.forward.items()},
        training=ledger.flops / clips / steps,
        held=held,
        temporary=max(0, ledger.peak - counter.before - sum(held.values()) - copies - gradients),
        copies=copies,
        batch=sum(tensor.numel() * tensor.element_size() for tensor in example.batch.values()),
    )


class _StepCounter:
    """Takes steps without optimizers, inside `counting`.

    Attributes:
        before: bytes that are there before the first step.
        forward: operations by part of the first forward pass.
        held: bytes by part behind the forward pass that leaves most.
    """

    def __init__(self, ledger: Ledger, method: Method, batch: dict[str, torch.Tensor], clips: int, mixed: bool):
        self.ledger, self.method, self.batch, self.clips, self.mixed = ledger, method, batch, clips, mixed
        ledger.mark_parameters(method)
        ledger.restart()
        self.before, self._standing = ledger.live, ledger.live_by_part()
        self.forward: Counter[str] = Counter()
        self.held: Counter[str] = Counter()

    def run(self, progress: Progress, accumulate: int) -> int:
        """Steps until every optimizer of the method has stepped; how many they were."""
        missing = set(self.method.optimizers()) - {MAIN}
        micro_batches = accumulate if missing else 1  # a step of equal parts holds what one part does
        for step in range(MOST_STEPS):
            now = replace(progress, step=progress.step + step)
            for micro in range(micro_batches):
                self._pass(self.batch, BatchRandom(0, now.step, micro, self.clips), now, MAIN)
            self.method.zero_grad(set_to_none=True)
            for phase in self.method.phases_after(now):
                self._pass(None, None, now, phase)
                self.method.zero_grad(set_to_none=True)
                missing.discard(phase)
            if not missing:
                break
        return (step + 1) * micro_batches

    def _pass(self, batch: dict[str, torch.Tensor] | None, rng: BatchRandom | None, progress: Progress, phase: str) -> None:
        """Forward and backward."""
        if phase != MAIN:
            self.ledger.enter(phase)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            losses = self.method(batch, rng, progress, phase)
        if phase != MAIN:
            self.ledger.leave()
        self.forward = self.forward or self.ledger.flops_by_part()
        held = self.ledger.live_by_part() - self._standing
        if held.total() > self.held.total():
            self.held = held
        self.ledger.enter(BACKWARD)
        losses["loss"].backward()
        self.ledger.leave()
