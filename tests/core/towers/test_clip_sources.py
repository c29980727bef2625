"""What is asked for as a tower and is none: one clear line each."""

import json
import os
import shutil

import pytest
import torch
from clip_toys import clip_folder, openai_tensors, openclip_folder, tokenizer
from safetensors.torch import load_file, save_file
from torch import nn

from tasks.core.checkpoint import save_model
from tasks.core.errors import UsageError
from tasks.core.towers import load_image_tower, load_text_tower
from tasks.core.towers.clip_write import write_tokenizer

BOTH = pytest.mark.parametrize("load", [load_image_tower, load_text_tower])


def refused(load, place) -> str:
    """What a tower is refused with."""
    with pytest.raises(UsageError) as caught:
        load(str(place))
    assert "\n" not in caught.value.message
    return str(caught.value)


class Named(nn.Module):
    """A module that has the tensors of OpenAI, as its archive."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        super().__init__()
        inner: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if rest:
                inner.setdefault(first, {})[rest] = tensor
            else:
                setattr(self, name, nn.Parameter(tensor, requires_grad=False))
        for name, own in inner.items():
            setattr(self, name, Named(own))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_openai_archives_are_read_without_their_code(tmp_path):
    tensors = openai_tensors()
    torch.jit.save(torch.jit.script(Named(tensors).half()), tmp_path / "ViT-B-32.pt")
    write_tokenizer(tmp_path, tokenizer())
    image, text = load_image_tower(tmp_path / "ViT-B-32.pt"), load_text_tower(tmp_path / "ViT-B-32.pt")
    assert torch.equal(image.network.patches.weight, tensors["visual.conv1.weight"].half().float())
    assert torch.equal(text.network.projection.weight, tensors["text_projection"].half().float().T)


@BOTH
def test_nothing_there(tmp_path, load):
    assert "does not exist" in refused(load, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "give a" in refused(load, tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("hello")
    assert "give a" in refused(load, tmp_path / "notes.txt")


@BOTH
def test_a_model_folder_of_this_suite_is_no_clip(tmp_path, load):
    save_model(tmp_path / "ours", {"encoder.x": torch.ones(2)}, {"task": "masked", "architecture": {}}, "")
    assert "give a" in refused(load, tmp_path / "ours")


@BOTH
def test_truncated_files(tmp_path, load):
    torch.save(openai_tensors(), tmp_path / "ViT.pt")
    folder = clip_folder(tmp_path / "clip")
    write_tokenizer(tmp_path, tokenizer())
    for file, said in ((tmp_path / "ViT.pt", "cannot be read as tensors"), (folder / "model.safetensors", "not a readable safetensors")):
        os.truncate(file, file.stat().st_size // 2)
        assert said in refused(load, file if file.suffix == ".pt" else folder)


@BOTH
def test_folders_of_another_kind(tmp_path, load):
    folder = clip_folder(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    shutil.copytree(folder, tmp_path / "siglip")
    (tmp_path / "siglip" / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))
    refused(load, tmp_path / "siglip")
    for section in ("text_config", "vision_config"):
        config[section]["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    assert "activation 'relu' is not known" in refused(load, folder)


@BOTH
def test_weights_that_do_not_fit(tmp_path, load):
    folder = clip_folder(tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    first = "vision_model.encoder.layers.1.mlp.fc1.bias" if load is load_image_tower else "text_model.encoder.layers.1.mlp.fc1.bias"
    for change, said in (
        ({first: None}, f"missing {first}"),
        ({first: torch.ones(7)}, "fc1.bias has shape (7,)"),
        ({first: weights[first] * float("nan")}, "NaN"),
        ({f"{first}.more": torch.ones(2)}, f"unexpected {first}.more"),
    ):
        changed = {name: tensor for name, tensor in {**weights, **change}.items() if tensor is not None}
        save_file(changed, folder / "model.safetensors")
        assert said in refused(load, folder)


@pytest.mark.parametrize(
    "change",
    [
        {"text_config": {"hidden_act": ["gelu"]}},
        {"text_config": {"num_attention_heads": 0}},
        {"text_config": {"num_attention_heads": "two"}},
        {"text_config": {"layer_norm_eps": 0}},
        {"text_config": [1]},
        {"text_config_dict": 3},
    ],
)
def test_configurations_of_the_wrong_kind(tmp_path, change):
    folder = clip_folder(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))
    refused(load_text_tower, folder)


@pytest.mark.parametrize("name", ["text_projection.weight", "text_model.embeddings.position_embedding.weight"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_tensors_of_the_wrong_shape(tmp_path, name, shape):
    folder = clip_folder(tmp_path / "clip")
    save_file({**load_file(folder / "model.safetensors"), name: torch.ones(shape)}, folder / "model.safetensors")
    refused(load_text_tower, folder)


def test_heads_that_do_not_divide(tmp_path):
    folder = clip_folder(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_attention_heads"] = 5
    (folder / "config.json").write_text(json.dumps(config))
    assert "width (64) must be a multiple of heads (5)" in refused(load_text_tower, folder)


def test_a_resnet_is_refused_by_name_and_its_text_is_not(tmp_path):
    tensors = {name: tensor for name, tensor in openai_tensors().items() if not name.startswith("visual.")}
    torch.save({**tensors, "visual.layer1.0.conv1.weight": torch.ones(2, 2, 1, 1)}, tmp_path / "RN50.pt")
    write_tokenizer(tmp_path, tokenizer())
    assert "ResNet" in refused(load_image_tower, tmp_path / "RN50.pt")
    assert load_text_tower(tmp_path / "RN50.pt").dim == 20


def test_a_model_without_a_vocabulary(tmp_path):
    torch.save(openai_tensors(), tmp_path / "ViT.pt")
    assert "has no vocabulary for its text" in refused(load_text_tower, tmp_path / "ViT.pt")
    folder = clip_folder(tmp_path / "clip")
    (folder / "merges.txt").unlink()
    assert "neither vocab.json with merges.txt" in refused(load_text_tower, folder)


def test_safetensors_that_do_not_say_what_they_are(tmp_path):
    folder = openclip_folder(tmp_path / "open")
    (folder / "open_clip_config.json").unlink()
    assert "put its open_clip_config.json beside it" in refused(load_image_tower, folder / "open_clip_model.safetensors")


def test_pickles_with_code_are_not_read(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    assert "asks for torch.nn.modules.linear.Linear" in refused(load_image_tower, tmp_path / "whole.pt")


def test_weights_outside_of_the_folder(tmp_path):
    folder = clip_folder(tmp_path / "clip")
    os.replace(folder / "model.safetensors", tmp_path / "model.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "model.safetensors")
    assert "leads out of its folder" in refused(load_image_tower, folder)
    os.replace(tmp_path / "model.safetensors", folder / "model.safetensors")
    os.replace(folder / "vocab.json", tmp_path / "vocab.json")
    (folder / "vocab.json").symlink_to(tmp_path / "vocab.json")
    assert "leads out of its folder" in refused(load_text_tower, folder)
