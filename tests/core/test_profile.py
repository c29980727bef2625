import pytest
import torch

from tasks.core import profile
from tasks.core.profile import Profiled, from_gradient, profiling, span


class Time:
    """A clock that goes on only while something is `busy`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def busy(monkeypatch):
    """Takes so many seconds."""
    time = Time()
    monkeypatch.setattr(profile, "time", time)

    def pass_by(seconds: float) -> None:
        time.now += seconds

    return pass_by


def measure(step, steps: int = 3) -> dict:
    def go(clock) -> None:
        while True:
            step()
            clock.step_done(clips=4, read_s=0.5)

    with profiling(steps, warmup=1) as clock, pytest.raises(Profiled) as done:
        go(clock)
    return done.value.report


def test_time_belongs_to_the_innermost_span_and_adds_up_to_the_step(busy):
    def step():
        with span("outer"):
            busy(0.004)
            with span("inner"):
                busy(0.008)
        busy(0.002)

    report = measure(step)
    ms = {part["part"]: part["ms"] for part in report["parts"]}
    assert ms == {"outer": 4, "inner": 8, "other": 2}
    assert list(ms) == ["outer", "inner", "other"]
    assert report["seconds_per_step"] == 0.014
    assert [part["share"] for part in report["parts"]] == [0.2857, 0.5714, 0.1429]
    assert (report["steps"], report["read_s_per_clip"]) == (3, 0.125)


def test_the_backward_pass_is_split_where_a_gradient_arrives(busy):
    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, seconds):
            ctx.seconds = seconds
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            busy(ctx.seconds)
            return gradient, None

    def step():
        x = torch.ones(2, requires_grad=True)
        middle = Slow.apply(x, 0.012)
        from_gradient(middle, "first half, backward")
        loss = Slow.apply(middle, 0.004).sum()
        with span("backward"):
            loss.backward()

    ms = {part["part"]: part["ms"] for part in measure(step)["parts"]}
    assert ms == {"backward": 4, "first half, backward": 12, "other": 0}


def test_outside_of_a_profile_spans_do_nothing():
    x = torch.ones(1, requires_grad=True)
    from_gradient(x, "part")
    assert x._backward_hooks is None
    with span("part"):
        pass
