"""Where the time of a training step goes: wall seconds by part, the device waited for at every change of part.

`span(name)` and `from_gradient(tensor, name)` cost nothing measurable outside of `profiling`. Waiting for the device at every change makes
a step on a GPU slower than it is otherwise; the shares are what is to be read.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Observer(Protocol):
    """What learns of the spans of a step."""

    def enter(self, name: str) -> None:
        """`name` begins, inside of what is open."""

    def leave(self) -> None:
        """The innermost part ends."""

    def turn_into(self, name: str) -> None:
        """The innermost part goes on under another name."""


_active: Observer | None = None


class Profiled(Exception):
    """Enough steps have been measured: ends the training of `profiling`.

    Attributes:
        report: `steps`, `seconds_per_step`, `clips_per_s`, `read_s_per_clip` (one core's seconds of reading and decoding) and `parts`, a
            list of `part`, `ms` per step and `share` of it, in the order in which a step meets them.
    """

    def __init__(self, report: dict[str, Any]):
        super().__init__("profiled")
        self.report = report


class StepClock:
    """Adds up the time of every part over `steps` steps that follow `warmup` others."""

    def __init__(self, steps: int, warmup: int):
        self.steps, self.warmup = steps, warmup
        self.passed, self.clips, self.read_s = 0, 0, 0.0
        self._parts: dict[str, float] = {}
        self._open: list[str] = []
        self._last = self._begun = time.perf_counter()

    def enter(self, name: str) -> None:
        """`name` begins, inside of what is open."""
        self._close_part()
        self._open.append(name)
        self._parts.setdefault(name, 0.0)

    def leave(self) -> None:
        """The innermost part ends."""
        self._close_part()
        self._open.pop()

    def turn_into(self, name: str) -> None:
        """The innermost part goes on under another name."""
        if self._open:
            self._close_part()
            self._open[-1] = name
            self._parts.setdefault(name, 0.0)

    def step_done(self, clips: int, read_s: float) -> None:
        """Counts a step of so many clips; raises Profiled after the last."""
        self._close_part()
        self.passed += 1
        if self.passed <= self.warmup:
            self._parts, self._begun = dict.fromkeys(self._parts, 0.0), self._last
            return
        self.clips, self.read_s = self.clips + clips, self.read_s + read_s
        if self.passed == self.warmup + self.steps:
            raise Profiled(self._report())

    def _close_part(self) -> None:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.perf_counter()
        part = self._open[-1] if self._open else "other"
        self._parts[part] = self._parts.get(part, 0.0) + now - self._last
        self._last = now

    def _report(self) -> dict[str, Any]:
        total = self._last - self._begun
        names = [name for name in self._parts if name != "other"] + ["other"]
        parts = [{"part": n, "ms": round(1e3 * self._parts[n] / self.steps, 3), "share": round(self._parts[n] / total, 4)} for n in names]
        return {
            "steps": self.steps,
            "seconds_per_step": round(total / self.steps, 5),
            "clips_per_s": round(self.clips / total, 2),
            "read_s_per_clip": round(self.read_s / self.clips, 5) if self.clips else None,
            "parts": parts,
        }


@contextmanager
def profiling(steps: int, warmup: int = 3) -> Iterator[StepClock]:
    """Training inside ends with Profiled once `steps` steps after `warmup` others are measured."""
    measured = StepClock(steps, warmup)
    with observing(measured):
        yield measured


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """`observer` learns of the spans inside."""
    global _active
    before, _active = _active, observer
    try:
        yield
    finally:
        _active = before


def clock() -> StepClock | None:
    """The clock of the profile being taken, if any."""
    return _active if isinstance(_active, StepClock) else None


@contextmanager
def span(name: str) -> Iterator[None]:
    """The time inside belongs to part `name`, less that of spans within."""
    if _active is None:
        yield
        return
    _active.enter(name)
    try:
        yield
    finally:
        _active.leave()


def from_gradient(tensor: torch.Tensor, name: str) -> None:
    """The backward pass belongs to part `name` from the moment on when the gradient of `tensor` is known."""
    if _active is not None and tensor.requires_grad:
        tensor.register_hook(lambda _: _active.turn_into(name) if _active else None)


def moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its main tensor, and with its `flow` where it has one beside it, on the device."""
    with span("transfer"):
        streams = [name for name in {batch["main"], "flow"} if name in batch]
        return {**batch, **{name: batch[name].to(device, non_blocking=True) for name in streams}}
