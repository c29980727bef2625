"""What the loop computes, in float64, against the same training written out: gradients, clipping, learning rates, weight decay, moments,
phases, the moving average.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_toy import ToyConfig
from pinned import same_everywhere
from torch import nn

from tasks.core.engine import loop
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.readable import LastReadableBatch
from tasks.core.engine.run import Run, read_metrics

FEATURES, ROWS, PER_EPOCH, EPOCHS = 4, 4, 4, 3
STEPS = PER_EPOCH * EPOCHS
LAYERS = {"first": 0, "second": 2}  # of one: 0 the embedding, 2 the head

pytestmark = pytest.mark.usefixtures("float64")


def main_loss(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A mean over rows; the optimizer of the main phase leaves `shift` alone, although it has a gradient."""
    hidden = torch.tanh(x @ weights["first.weight"].T + weights["first.bias"])
    error = hidden @ weights["second.weight"].T + weights["second.bias"] - x.sum(1, keepdim=True)
    return error.square().mean() + 0.3 * weights["shift"].sum()


def shift_loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The weights that the main step has just changed are what `shift` follows; they have a gradient here and stay as they are."""
    return (weights["shift"] - weights["second.weight"].mean()).square().sum()


class TwoPhases(Method):
    """Two layers and a number that follows them, after every second step, with an optimizer of its own."""

    def __init__(self, optim: OptimConfig):
        super().__init__()
        self.optim = optim
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, 1)
        self.shift = nn.Parameter(torch.zeros(1))
        same_everywhere(self, vectors=0.3)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        weights = dict(self.named_parameters())
        return {"loss": main_loss(weights, batch["video"]) if phase == MAIN else shift_loss(weights)}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        named = [(name, p) for name, p in self.named_parameters() if name != "shift"]
        groups = make_groups(named, self.optim.weight_decay, lambda name: LAYERS[name.split(".")[0]], 1, self.optim.layer_decay)
        return {
            MAIN: OptimizerSpec(groups, self.optim.base_lr, self.optim.betas, self.optim.clip_grad),
            "shift": OptimizerSpec(make_groups([("shift", self.shift)], 0.0), 0.3 * self.optim.base_lr, (0.5, 0.7), 0.2),
        }

    def phases_after(self, progress: Progress) -> list[str]:
        return ["shift"] if progress.step % 2 else []


def rows_of_step(step: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(step).standard_normal((ROWS, FEATURES)))


def micro_batches(start: int, accumulate: int, unreadable: tuple[int, ...] = ()) -> Iterator[dict[str, Any]]:
    """The rows of every step in `accumulate` equal parts; the parts `unreadable` have none."""
    while True:
        rows = rows_of_step(start // accumulate).chunk(accumulate)[start % accumulate]
        yield {"main": "video", "video": rows[: 0 if start in unreadable else None], "path": [f"video-{start}"], "skipped": []}
        start += 1


def fit(
    folder: Path, optim: OptimConfig, method: Callable[[OptimConfig], Method] = TwoPhases, unreadable: tuple[int, ...] = (), **changes: Any
) -> tuple[loop.Trainer, list[dict[str, float]]]:
    """Trains `STEPS` steps of `ROWS` rows, in `accumulate` micro-batches each; what was logged after every step."""
    accumulate = changes.get("accumulate", 1)
    train = TrainConfig(epochs=EPOCHS, batch_size=ROWS // accumulate, log_every_steps=1, precision="fp32", **changes)
    run = Run.open(folder, ToyConfig(train=train, optim=optim), "toy", "pretrain", ["test"])
    trainer = loop.Trainer(
        method(optim),
        run,
        make_accelerator(train, run, uneven=True),
        train,
        optim,
        lambda start: micro_batches(start, accumulate, unreadable),
        lambda batch, device: {"video": batch["video"].to(device)},
        PER_EPOCH * accumulate,
        evaluate=lambda trainer, stop: {name: float(p.detach().sum()) for name, p in trainer.evaluated_model.named_parameters()},
    )
    try:
        trainer.fit()
    finally:
        run.close()
    return trainer, [row for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "train"]


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().clone() for name, p in module.named_parameters()}


def rates(optim: OptimConfig, base_lr: float) -> np.ndarray:
    """VideoMAE's schedule as its public code lists it: a line over the steps of the warm-up, then half a cosine."""
    factor = base_lr / optim.base_lr * (ROWS / 256 if optim.scale_lr else 1)
    top, low, first = optim.base_lr * factor, optim.min_lr * factor, optim.warmup_lr * factor
    warmup = round(optim.warmup_epochs * PER_EPOCH)
    rest = np.arange(STEPS - warmup)
    return np.concatenate([np.linspace(first, top, warmup), low + 0.5 * (top - low) * (1 + np.cos(np.pi * rest / len(rest)))])


class Slow:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) or SGD with momentum, one parameter at a time, with the learning rate of each."""

    def __init__(
        self, optim: OptimConfig, betas: tuple[float, float], clip: float | None, scale: dict[str, float], decay: dict[str, float]
    ):
        self.optim, self.betas, self.clip, self.scale, self.decay = optim, betas, clip, scale, decay
        self.first = dict.fromkeys(scale, 0.0)
        self.second = dict.fromkeys(scale, 0.0)
        self.steps = 0

    def step(self, weights: dict[str, torch.Tensor], gradients: dict[str, torch.Tensor], rate: float) -> float:
        """Changes `weights`; returns the norm of all gradients before clipping."""
        self.steps += 1
        norm = math.sqrt(sum(float(gradients[name].square().sum()) for name in self.scale))
        shrink = min(1.0, self.clip / (norm + 1e-6)) if self.clip else 1.0
        for name, scale in self.scale.items():
            update = self.sgd if self.optim.name == "sgd" else self.adamw
            weights[name] = update(name, weights[name], gradients[name] * shrink, rate * scale)
        return norm

    def adamw(self, name: str, weight: torch.Tensor, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        a, b = self.betas
        self.first[name] = a * self.first[name] + (1 - a) * gradient
        self.second[name] = b * self.second[name] + (1 - b) * gradient**2
        mean, square = self.first[name] / (1 - a**self.steps), self.second[name] / (1 - b**self.steps)
        return weight - rate * self.decay[name] * weight - rate * mean / (square.sqrt() + self.optim.eps)

    def sgd(self, name: str, weight: torch.Tensor, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        gradient = gradient + self.decay[name] * weight
        momentum = self.optim.momentum
        self.first[name] = momentum * self.first[name] + gradient
        return weight - rate * (gradient + momentum * self.first[name] if self.optim.nesterov else self.first[name])


def slow_training(optim: OptimConfig, ema: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[dict[str, float]]]:
    """The weights after the last step, their moving average, and what every step logs, without the loop."""
    weights, average, logs = weights_of(TwoPhases(optim)), {}, []
    scale = {name: optim.layer_decay ** (2 - LAYERS[name.split(".")[0]]) for name in weights if name != "shift"}
    decay = {name: optim.weight_decay if name.endswith("weight") else 0.0 for name in scale}
    main = Slow(optim, optim.betas, optim.clip_grad, scale, decay)
    shift = Slow(optim, (0.5, 0.7), 0.2, {"shift": 1.0}, {"shift": 0.0})

    def gradients(loss: Callable[..., torch.Tensor], *given: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        value = loss(leaves, *given)
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        return float(value.detach()), dict(zip(leaves, found, strict=True))

    for step in range(STEPS):
        loss, slopes = gradients(main_loss, rows_of_step(step))
        rate = rates(optim, optim.base_lr)[step]
        logs.append({"loss": loss, "lr": rate, "grad_norm": main.step(weights, slopes, rate)})
        if step % 2:
            loss, slopes = gradients(shift_loss)
            rate = rates(optim, 0.3 * optim.base_lr)[step]
            logs[-1] |= {"shift_loss": loss, "lr_shift": rate, "shift_grad_norm": shift.step(weights, slopes, rate)}
        average = {name: ema * average[name] + (1 - ema) * weight if average else weight.clone() for name, weight in weights.items()}
    return weights, average, logs


OPTIMIZERS = {
    "adamw": {"name": "adamw", "betas": (0.8, 0.95), "eps": 1e-4},
    "sgd": {"name": "sgd", "momentum": 0.7, "nesterov": False},
    "nesterov": {"name": "sgd", "momentum": 0.7, "nesterov": True},
    "plain": {"name": "sgd", "momentum": 0.0},
}
SETTINGS = {"base_lr": 3.2, "min_lr": 0.2, "warmup_lr": 0.1, "warmup_epochs": 1, "weight_decay": 0.3, "layer_decay": 0.6, "clip_grad": 1.5}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_step_is_that_of_the_formulas(tmp_path, name, accumulate):
    """Two micro-batches of half the rows give the same as one of all."""
    optim = OptimConfig(**SETTINGS, **OPTIMIZERS[name])
    expected, average, logs = slow_training(optim, 0.8)
    trainer, logged = fit(tmp_path / "run", optim, accumulate=accumulate, ema=0.8)
    for step, (found, wanted) in enumerate(zip(logged, logs, strict=True)):
        assert {key: found[key] for key in wanted} == pytest.approx(wanted, rel=1e-6), step  # logged in float32
    assert min(row["grad_norm"] for row in logs) < 1.5 < max(row["grad_norm"] for row in logs)  # some gradients are clipped
    found, followed = weights_of(trainer.method), weights_of(trainer.evaluated_model)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(followed[key], average[key], rtol=1e-10, atol=1e-12)
        assert not torch.allclose(found[key], followed[key], rtol=1e-3)


def test_accumulation_equals_the_larger_batch(tmp_path):
    """The mean over four micro-batches of a row is that over the four rows: in the loss, its gradient and all that follows."""
    optim = OptimConfig(**SETTINGS)
    (one, whole), (four, parts) = (fit(tmp_path / str(n), optim, accumulate=n) for n in (1, 4))
    for key in ("loss", "grad_norm", "lr"):
        assert [row[key] for row in parts] == pytest.approx([row[key] for row in whole], rel=1e-6)
    expected = weights_of(one.method)
    for key, weight in weights_of(four.method).items():
        torch.testing.assert_close(weight, expected[key], rtol=1e-10, atol=1e-12)


class Constant(TwoPhases):
    """The gradient of every weight of the layers is 1, of `shift` 0: a step is the learning rate."""

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        return {"loss": sum(p.sum() for name, p in self.named_parameters() if name != "shift") + 0 * self.shift.sum()}


def test_the_learning_rate_of_a_step_is_what_moves_the_weights(tmp_path):
    """Without momentum, decay and clipping the weights are where they began less the sum of all rates, times the factor of their layer."""
    optim = OptimConfig(name="sgd", momentum=0.0, **{**SETTINGS, "weight_decay": 0.0, "clip_grad": None})
    before = weights_of(Constant(optim))
    trainer, logged = fit(tmp_path / "run", optim, Constant)
    expected = rates(optim, optim.base_lr)
    assert [row["lr"] for row in logged] == pytest.approx(expected.tolist(), rel=1e-12)
    assert [row["lr_shift"] for row in logged] == pytest.approx((0.3 * expected).tolist(), rel=1e-12)
    assert expected[0] == pytest.approx(0.1 * ROWS / 256)
    assert expected.max() == expected[PER_EPOCH - 1] == expected[PER_EPOCH] == pytest.approx(0.05)
    for name, weight in weights_of(trainer.method).items():
        moved = 0.0 if name == "shift" else {"first": 0.6**2, "second": 1.0}[name.split(".")[0]] * expected.sum()
        torch.testing.assert_close(before[name] - weight, torch.full_like(weight, moved), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("alone", [True, False])
def test_a_micro_batch_without_a_readable_video_counts_zero(tmp_path, monkeypatch, alone):
    """The other half of the step weighs what it would have weighed; not alone: also where an earlier batch stands in."""
    monkeypatch.setattr(loop, "LastReadableBatch", lambda loader, _: LastReadableBatch(loader, alone))
    optim = OptimConfig(name="sgd", momentum=0.0, **{**SETTINGS, "weight_decay": 0.0, "clip_grad": None})
    before = weights_of(Constant(optim))["second.bias"]
    trainer, _ = fit(tmp_path / "run", optim, Constant, unreadable=(5,), accumulate=2)  # the second half of step 2
    steps = rates(optim, optim.base_lr)
    steps[2] /= 2
    torch.testing.assert_close(before - weights_of(trainer.method)["second.bias"], torch.tensor([steps.sum()]), rtol=1e-10, atol=1e-12)


class Still(TwoPhases):
    """No weight has a gradient other than 0: only weight decay moves them."""

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        return {"loss": 0 * sum(p.sum() for p in self.parameters())}


@pytest.mark.parametrize("name", ["adamw", "plain"])
def test_weight_decay_shrinks_matrices_and_nothing_else(tmp_path, name):
    """By 1 - rate x decay a step, with the rate of their layer."""
    optim = OptimConfig(**SETTINGS, **OPTIMIZERS[name])
    before = weights_of(Still(optim))
    trainer, _ = fit(tmp_path / "run", optim, Still)
    for key, weight in weights_of(trainer.method).items():
        scale = {"first.weight": 0.6**2, "second.weight": 1.0}.get(key, 0.0)
        left = float(np.prod(1 - 0.3 * scale * rates(optim, optim.base_lr)))
        torch.testing.assert_close(weight, before[key] * left, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("clip", "length"), [(None, 3.0), (2.0, 2.0), (5.0, 3.0)])
def test_clipping_shortens_a_gradient_and_keeps_its_direction(tmp_path, clip, length):
    """All parameters of an optimizer share one norm, which is logged as it was."""

    class Nine(TwoPhases):
        def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
            loss = self.second.bias.sum() + 2 * self.first.bias[:2].sum()  # (1, 2, 2): a norm of 3
            return {"loss": loss + 0 * self.shift.sum()}

    optim = OptimConfig(name="sgd", momentum=0.0, base_lr=1.0, scale_lr=False, weight_decay=0.0, clip_grad=clip)
    before = weights_of(Nine(optim))
    trainer, logged = fit(tmp_path / "run", optim, Nine, max_steps=1)
    moved = {name: before[name] - weight for name, weight in weights_of(trainer.method).items()}
    assert logged[0]["grad_norm"] == pytest.approx(3.0)
    assert moved["second.bias"].item() == pytest.approx(length / 3, rel=1e-6)
    assert moved["first.bias"].tolist() == pytest.approx([2 * length / 3] * 2 + [0.0] * 3, rel=1e-6)


def test_a_moving_average_begins_with_the_first_step_and_keeps_its_share(tmp_path):
    """After every step: 0.9 of the average before, 0.1 of the weights; the first step's weights start it."""
    optim = OptimConfig(name="sgd", momentum=0.0, **{**SETTINGS, "weight_decay": 0.0, "clip_grad": None})
    start, moved = weights_of(Constant(optim))["second.bias"], np.cumsum(rates(optim, optim.base_lr))
    trainer, _ = fit(tmp_path / "run", optim, Constant, ema=0.9)
    average = moved[0]
    for total in moved[1:]:
        average = 0.9 * average + 0.1 * total
    torch.testing.assert_close(weights_of(trainer.evaluated_model)["second.bias"], start - average, rtol=1e-10, atol=1e-12)
    logged = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "eval"]
    assert logged[-1]["second.bias"] == pytest.approx(float(start) - average, rel=1e-10)
