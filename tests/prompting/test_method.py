"""Training prompts: what changes, what does not, what is compared."""

import copy

import prompting_toys as toys
import pytest
import torch
import torch.nn.functional as F
from clip_toys import text_config
from pinned import same_everywhere

from tasks.core.engine.random import BatchRandom
from tasks.core.nn.clip import TextTransformer


def step(method, batch, lr=0.01):
    optimizer = torch.optim.AdamW(method.optimizers()["main"].groups, lr=lr)
    loss = toys.losses(method, batch)["loss"]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def test_the_tower_is_frozen_and_kept_nowhere():
    method = toys.method()
    before = {name: tensor.clone() for name, tensor in method.text.tower.state_dict().items()}
    own = copy.deepcopy(method.state_dict())
    method.train()
    step(method, toys.batch())
    assert not method.text.tower.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.text.tower.state_dict().items())
    assert all(parameter.grad is None for parameter in method.text.tower.parameters())
    assert all(name.startswith("model.") for name in own)
    assert all(not torch.equal(tensor, own[name]) for name, tensor in method.state_dict().items())


@pytest.mark.usefixtures("float64")
def test_the_loss_is_that_of_the_definition():
    method, batch = toys.method(model={"temporal": {"layers": 0}}), toys.batch()
    found = toys.losses(method, batch)["loss"]
    text = method.text_features()
    total = 0.0
    for clip, label in zip(batch["clip"], batch["label"], strict=True):
        video = clip.mean(0)
        cosines = torch.stack([video @ c / video.norm() / c.norm() for c in text]) / 0.07
        total -= cosines[label] - cosines.exp().sum().log()
    assert found.item() == pytest.approx(total.item() / len(batch["label"]), abs=1e-9)


PINNED = [1.755447476, 1.274054527, 0.925914855, 0.623472773]


@pytest.mark.usefixtures("float64")
def test_pinned_losses():
    text = same_everywhere(TextTransformer(text_config()), 0.1)
    method, batch = toys.method(text=toys.tower(text)), toys.batch()
    same_everywhere(method.model, 0.1)
    found = [step(method, batch) for _ in range(4)]
    assert found == pytest.approx(PINNED, abs=1e-7)


@pytest.mark.parametrize("layers", [0, 1])
def test_eight_videos_of_eight_classes_are_learned(layers):
    names = ("red square", "blue circle", "running dog", "resting cat", "the rain", "photographs", "left", "moves")
    method = toys.method(names, model={"temporal": {"layers": layers, "heads": 4}, "prompts": {"before": 4, "after": 4}})
    batch = toys.batch(8, 8)
    for _ in range(150):
        step(method, batch, 0.02)
    assert toys.losses(method, batch)["train_top1"] == 100


def test_sampled_candidates_hold_every_label_once():
    names = tuple(f"{color} {thing}" for color in ("red", "blue", "resting", "running") for thing in ("dog", "cat", "square", "circle"))
    method = toys.method(names, candidates=6)
    label = torch.tensor([3, 9, 3, 15])
    draws = set()
    for number in range(20):
        chosen, places = method._candidates(label, BatchRandom(0, number, 0, 4))
        assert len(chosen) == len(set(chosen.tolist())) == 6
        assert chosen[places].tolist() == label.tolist()
        draws |= set(chosen.tolist())
    assert len(draws) == 16
    many = torch.arange(10)
    chosen, places = method._candidates(many, BatchRandom(0, 0, 0, 10))
    assert chosen.tolist() == places.tolist() == many.tolist()


def test_candidates_that_are_all_classes_are_the_full_softmax():
    names = ("red square", "blue circle", "running dog", "resting cat")
    few, all_ = toys.method(names, candidates=4), toys.method(names, candidates=400)
    batch = toys.batch()
    assert toys.losses(few, batch)["loss"] == toys.losses(all_, batch)["loss"]
    logits = all_.model.logits(all_.model.video_features(batch["clip"], batch["gap"]), all_.text_features())
    assert toys.losses(all_, batch)["loss"] == F.cross_entropy(logits, batch["label"])
