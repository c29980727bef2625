"""Frozen towers in a method: nothing changes them and nothing keeps them."""

import copy

import pytest
import torch
from clip_toys import clip_folder
from engine_toy import Toy, ToyConfig, batches
from safetensors import safe_open

from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.run import Run
from tasks.core.engine.setup import count_parameters
from tasks.core.errors import UsageError
from tasks.core.towers import FrozenTower, load_image_tower, load_text_tower
from tasks.core.towers.identity import recall, tensors_hash

TEXTS = ["a red square", "a blue circle"]


class Prompted(Toy):
    """A toy whose inputs go through learned embeddings and a frozen text tower."""

    def __init__(self, config: ToyConfig, folder):
        super().__init__(config.optim, dropout=0)
        self.text = FrozenTower(load_text_tower(folder))
        self.prompts = torch.nn.Parameter(0.01 * torch.randn(1, 4, self.text.tower.width))
        self.modes: set[bool] = set()

    def forward(self, batch, *args, **kwargs):
        losses = super().forward(batch, *args, **kwargs)
        if batch is not None:
            self.modes |= {module.training for module in self.text.tower.modules()}
            found = self.text.tower.network.encode(self.prompts, torch.tensor([3]))
            losses["loss"] = losses["loss"] + (found - self.text(TEXTS[:1])).square().mean()
        return losses

    def optimizers(self):
        made = super().optimizers()
        made["main"].groups[0]["params"].append(self.prompts)
        return made


def train(folder, clip):
    config = ToyConfig(train=ToyConfig().train.model_copy(update={"save_every_steps": 4, "keep_last": 9}))
    run = Run.open(folder, config, "toy", "pretrain", ["test"])
    method = Prompted(config, clip)
    before = method.prompts.detach().clone()
    trainer = Trainer(
        method,
        run,
        make_accelerator(config.train, run, uneven=True),
        config.train,
        config.optim,
        lambda start: batches(start, config.train.batch_size),
        lambda batch, device: batch,
        2,
        evaluate=lambda trainer, stop: {"score": float(trainer.step)},
        best_of="score",
    )
    try:
        trainer.fit()
    finally:
        run.close()
    return trainer, method, before


def tensors(tower):
    return {name: tensor.detach().clone() for name, tensor in tower.state_dict().items()}


def test_training_changes_no_bit_of_it_and_keeps_none_of_it(tmp_path):
    clip = clip_folder(tmp_path / "clip")
    trainer, method, before = train(tmp_path / "run", clip)
    expected, found = tensors(load_text_tower(clip)), tensors(method.text.tower)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(method.prompts, before)
    assert method.modes == {False}
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in method.text.tower.parameters())
    for checkpoint in trainer.checkpoints.complete():
        with safe_open(checkpoint / "model.safetensors", "pt") as file:
            assert {name.split(".")[0] for name in file.keys()} == {"layer", "shift", "prompts"}  # noqa: SIM118
        for name in ("ema", "best"):
            kept = torch.load(checkpoint / f"{name}.pt", weights_only=True)
            assert not [key for key in kept if "text" in key]
    for copied in (trainer.ema.module, trainer.best_model):
        assert copied.text.tower.network.tokens.weight.data_ptr() == method.text.tower.network.tokens.weight.data_ptr()


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    clip = clip_folder(tmp_path / "clip")
    _, first, _ = train(tmp_path / "run", clip)
    _, again, _ = train(tmp_path / "run", clip)
    assert torch.equal(first.prompts, again.prompts)


def test_it_is_no_part_of_the_method(tmp_path):
    tower = load_text_tower(clip_folder(tmp_path))
    method = torch.nn.Sequential(torch.nn.Linear(2, 2), FrozenTower(tower))
    assert count_parameters(method) == (6, 6)
    assert method.state_dict().keys() == {"0.weight", "0.bias"}
    method.train()
    assert not tower.training
    method.requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert torch.equal(method[1](TEXTS), tower(TEXTS))


def test_it_moves_with_the_method_and_copies_stay_where_they_are(tmp_path):
    """A change of type stands for a change of device, which takes the same way."""
    tower = load_text_tower(clip_folder(tmp_path))
    held = FrozenTower(tower)
    method = torch.nn.ModuleList([held])
    copied = copy.deepcopy(method)
    assert copied[0].tower is held.tower
    expected = tower(TEXTS)
    method.to(torch.float32)
    assert held.tower is tower  # it was there
    method.double()
    assert held.tower(TEXTS).dtype == torch.float64
    assert torch.allclose(held.tower(TEXTS).float(), expected, atol=1e-5)
    assert torch.equal(copied[0](TEXTS), expected)
    assert held.tower.tokenizer is tower.tokenizer
    assert not held.tower.training
    assert not any(parameter.requires_grad for parameter in held.tower.parameters())
    method.to("meta")
    assert held.tower.network.positions.is_meta
    assert torch.equal(copied[0](TEXTS), expected)


def test_a_method_built_on_no_device_has_its_tower(tmp_path):
    clip = clip_folder(tmp_path)
    with torch.device("meta"):
        text, image = load_text_tower(clip), load_image_tower(clip)
    assert {p.device.type for tower in (text, image) for p in tower.parameters()} == {"cpu"}


def test_a_tower_is_called_back_by_its_hash(tmp_path):
    clip = clip_folder(tmp_path / "clip")
    recorded = load_text_tower(clip).source
    assert recorded == {"reference": str(clip), "revision": None, "kind": "clip-text", "weights_hash": recorded["weights_hash"]}
    assert recall(recorded, load_text_tower, "runs/mine").source == recorded
    clip.rename(tmp_path / "moved")
    assert recall(recorded, load_text_tower, "runs/mine", str(tmp_path / "moved")).source["weights_hash"] == recorded["weights_hash"]
    with pytest.raises(UsageError, match="does not exist"):
        recall(recorded, load_text_tower, "runs/mine")
    clip_folder(clip, activation="gelu")  # the same weights, used otherwise
    with pytest.raises(UsageError, match=f"runs/mine was trained with the frozen tower .*{recorded['weights_hash']}.* is another"):
        recall(recorded, load_text_tower, "runs/mine")


def test_the_hash_sees_every_bit_and_name():
    first = {"a": torch.ones(3), "b": torch.arange(4.0)}
    known = {tensors_hash(first, 1)}
    assert tensors_hash(dict(reversed(first.items())), 1) in known
    assert tensors_hash({"a": torch.ones(3).half(), "b": torch.arange(4.0)}, 1) in known
    for changed, facts in (
        ({**first, "a": torch.tensor([1, 1, 1 + 2**-23])}, 1),
        ({**first, "a": torch.ones(3, 1)}, 1),
        ({"a": first["a"], "c": first["b"]}, 1),
        (first, 2),
    ):
        digest = tensors_hash(changed, facts)
        assert digest not in known
        known.add(digest)
