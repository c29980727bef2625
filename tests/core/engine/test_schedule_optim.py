"""Learning rates, layer decay, parameter groups, optimizers."""

import math

import pytest
import torch

from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.method import Method, OptimizerSpec
from tasks.core.engine.optim import decayed, layer_scale, make_groups, make_optimizer
from tasks.core.engine.schedule import Schedule, run_length, scaled, schedules
from tasks.core.nn.config import VitConfig
from tasks.core.nn.vit import VideoTransformer


def test_warmup_and_cosine_at_the_marked_steps():
    schedule = Schedule(lr=1.0, total_steps=110, warmup_steps=10, min_lr=0.1, warmup_lr=0.01)
    assert schedule(0) == pytest.approx(0.01)
    assert schedule(9) == pytest.approx(1.0)
    assert schedule(10) == pytest.approx(1.0)
    assert schedule(60) == pytest.approx(0.55)
    assert schedule(109) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 0.99)))
    assert schedule(110) == pytest.approx(0.1)
    assert [schedule(s) for s in range(10)] == sorted(schedule(s) for s in range(10))


def test_schedule_agrees_with_torch():
    made = Schedule(lr=0.5, total_steps=50, min_lr=0.05)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.05)
    for step in range(50):
        assert made(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_linear_scaling():
    assert scaled(1.5e-4, 512, True) == pytest.approx(3e-4)
    assert scaled(1.5e-4, 512, False) == 1.5e-4


@pytest.mark.parametrize(
    ("micro", "settings", "expected"),
    [
        (7, {"epochs": 3}, (7, 21)),
        (7, {"epochs": 3, "accumulate": 2}, (3, 9)),
        (7, {"epochs": 3, "accumulate": 2, "max_steps": 5}, (3, 5)),
        (7, {"epochs": 3, "max_steps": 50}, (7, 21)),
        (2, {"epochs": 3, "accumulate": 4}, (1, 3)),
    ],
)
def test_length_of_a_run(micro, settings, expected):
    assert run_length(TrainConfig(**settings), micro) == expected


class Two(Method):
    """Two optimizers, the second with a quarter of the learning rate of the first."""

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {"main": OptimizerSpec([], 0.4, (0.9, 0.95)), "policy": OptimizerSpec([], 0.1, (0.9, 0.95))}


@pytest.mark.parametrize(("scale_lr", "factor"), [(False, 1.0), (True, 2.0)])
def test_every_optimizer_has_the_same_shape_of_schedule(scale_lr, factor):
    """512 clips a step; 10 steps an epoch, 2 of 6 epochs warm up."""
    optim = OptimConfig(base_lr=0.4, min_lr=0.04, warmup_lr=0.004, warmup_epochs=2, scale_lr=scale_lr)
    made = schedules(Two(), optim, 512, 10, 60)
    for name, top in (("main", 0.4 * factor), ("policy", 0.1 * factor)):
        line = [top * (0.01 + 0.99 * step / 19) for step in range(20)]
        curve = [top * (0.1 + 0.45 * (1 + math.cos(math.pi * step / 40))) for step in range(41)]
        assert [made[name](step) for step in range(61)] == pytest.approx(line + curve, rel=1e-12)


def test_a_warm_up_leaves_one_step_at_least():
    made = schedules(Two(), OptimConfig(base_lr=0.4, warmup_epochs=9, scale_lr=False), 8, 2, 5)
    assert [made["main"](step) for step in range(5)] == pytest.approx([0.4 * step / 3 for step in range(4)] + [0.4])


def test_layer_decay_table_of_the_thesis():
    assert layer_scale(13, 12, 0.75) == 1
    assert layer_scale(12, 12, 0.75) == pytest.approx(0.75)
    assert layer_scale(0, 12, 0.75) == pytest.approx(0.75**13)


def test_groups_cover_every_parameter_once_with_the_right_scale_and_decay():
    vit = VideoTransformer(VitConfig(size="tiny", depth=3, image_size=32, frames=4))
    groups = make_groups(vit.named_parameters(), 0.05, vit.layer_of, 3, 0.5)
    ids = [id(p) for g in groups for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in vit.parameters())
    by_id = {id(p): g for g in groups for p in g["params"]}
    assert by_id[id(vit.embed.weight)]["lr_scale"] == 0.5**4
    assert by_id[id(vit.blocks[2].mlp.fc1.weight)] | {"params": 0} == {"params": 0, "weight_decay": 0.05, "lr_scale": 0.5, "name": "layer3"}
    assert by_id[id(vit.blocks[0].attn.q_bias)]["weight_decay"] == 0
    assert by_id[id(vit.norm.weight)]["weight_decay"] == 0


def test_frozen_parameters_belong_to_no_group():
    vit = VideoTransformer(VitConfig(size="tiny", depth=1, image_size=32, frames=4))
    vit.embed.requires_grad_(False)
    frozen = {id(p) for p in vit.embed.parameters()}
    groups = make_groups(vit.named_parameters(), 0.05, layer_decay=0.5)
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in vit.parameters()} - frozen
    assert [g["lr_scale"] for g in groups] == [1.0, 1.0]  # nothing says which layer a parameter belongs to


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ({"betas": (0.8, 0.7), "eps": 1e-5}, torch.optim.AdamW, {"betas": (0.8, 0.7), "eps": 1e-5, "amsgrad": False}),
        ({"name": "sgd", "momentum": 0.6}, torch.optim.SGD, {"momentum": 0.6, "nesterov": True, "dampening": 0}),
        ({"name": "sgd", "momentum": 0.6, "nesterov": False}, torch.optim.SGD, {"momentum": 0.6, "nesterov": False}),
        ({"name": "sgd", "momentum": 0.0}, torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    ],
)
def test_an_optimizer_is_as_its_settings_say(settings, kind, expected):
    layer = torch.nn.Linear(2, 2)
    groups = make_groups(layer.named_parameters(), 0.05)
    made = make_optimizer(groups, OptimConfig(**settings), torch.device("cpu"))
    assert type(made) is kind
    assert sorted(group["weight_decay"] for group in made.param_groups) == [0.0, 0.05]
    for group in made.param_groups:
        assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("a.weight", (2, 2), True),
        ("a.weight", (2, 2, 3, 3), True),
        ("a.weight", (2,), False),
        ("a.bias", (2,), False),
        ("mask_token", (1, 1, 4), False),
        ("encoder.pos_embed", (1, 4, 4), False),
        ("sampler.position", (1, 4, 4), False),
    ],
)
def test_what_decays(name, shape, expected):
    assert decayed(name, torch.zeros(shape)) is expected
