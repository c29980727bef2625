"""Schedules other than the cosine, and the optimizers that a configuration names, against formulas of their own."""

import pytest
import torch
from engine_toy import Toy

from tasks.core.config import build
from tasks.core.engine.config import OptimConfig
from tasks.core.engine.optim import make_groups, make_optimizer
from tasks.core.engine.schedule import schedules
from tasks.core.errors import UsageError


def rates(**settings) -> list[float]:
    """Learning rates of 10 epochs of 4 steps."""
    optim = OptimConfig(base_lr=1.0, scale_lr=False, **settings)
    schedule = schedules(Toy(optim), optim, 256, 4, 40)["main"]
    return [schedule(step) for step in range(40)]


def test_constant_after_the_warm_up():
    assert rates(schedule="constant", warmup_epochs=1, warmup_lr=0.1) == pytest.approx([0.1, 0.4, 0.7, 1.0] + 36 * [1.0])


def test_steps_fall_at_the_milestones():
    found = rates(schedule="steps", milestones=(2, 5.5), gamma=0.5)
    assert found == pytest.approx(8 * [1.0] + 14 * [0.5] + 18 * [0.25])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "steps"}, "steps needs them"),
        ({"milestones": [3]}, "milestones go with schedule"),
        ({"schedule": "steps", "milestones": [3, 3]}, "increase"),
        ({"schedule": "steps", "milestones": [0, 3]}, "above 0"),
    ],
)
def test_milestones_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        build(OptimConfig, settings, {})


def stepped(name: str, steps: int = 3) -> list[float]:
    weight = torch.nn.Parameter(torch.tensor([[1.0], [-2.0]], dtype=torch.float64))
    config = OptimConfig(name=name, base_lr=0.1, betas=(0.8, 0.9), weight_decay=0.3, momentum=0.7, nesterov=False)
    groups = make_groups([("weight", weight)], config.weight_decay)
    optimizer = make_optimizer(groups, config, torch.device("cpu"))
    for step in range(steps):
        weight.grad = torch.tensor([[0.5 * (step + 1)], [0.25]], dtype=torch.float64)
        optimizer.step()
    return weight.detach().flatten().tolist()


def reference(name: str, steps: int = 3) -> list[float]:
    """Kingma and Ba 2015, algorithm 1, with L2 in the gradient; Loshchilov and Hutter 2019, algorithm 2; SGD with momentum."""
    found = []
    for number, start in enumerate((1.0, -2.0)):
        w, m, v = start, 0.0, 0.0
        for step in range(steps):
            g = 0.5 * (step + 1) if number == 0 else 0.25
            if name != "adamw":
                g += 0.3 * w
            if name == "sgd":
                m = 0.7 * m + g
                w -= 0.1 * m
                continue
            if name == "adamw":
                w -= 0.1 * 0.3 * w
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
            w -= 0.1 * (m / (1 - 0.8 ** (step + 1))) / ((v / (1 - 0.9 ** (step + 1))) ** 0.5 + 1e-8)
        found.append(w)
    return found


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimizers_follow_their_papers(name):
    assert stepped(name) == pytest.approx(reference(name), rel=1e-12)
