"""Learning rates, layer decay, parameter groups (spec C12.11)."""

import math

import pytest
import torch

from tasks.core.engine.optim import decayed, layer_scale, make_groups
from tasks.core.engine.schedule import Schedule, scaled
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


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [("a.weight", (2, 2), True), ("a.bias", (2,), False), ("mask_token", (1, 1, 4), False), ("sampler.position", (1, 4, 4), False)],
)
def test_what_decays(name, shape, expected):
    assert decayed(name, torch.zeros(shape)) is expected
