"""Weights of others are read as tensors only, renamed without a rest, and folders appear whole or not at all."""

import argparse
import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tasks.core.convert import check_out, give_names, read_folder, read_pth, state_dict, take_names
from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing_folder
from tasks.core.nn.config import VitConfig
from tasks.core.nn.videomae import join_spellings, split_spellings
from tasks.core.nn.vit import position_table

A = "layer.0.attention.attention."


class Evil:
    def __reduce__(self):
        return (open, ("never-made", "w"))


def test_a_file_with_code_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}, protocol=2))
    torch.save({"model": {"a": torch.zeros(1)}, "more": Evil()}, tmp_path / "modern.pth")
    for name in ("evil.pth", "modern.pth"):
        with pytest.raises(InputError, match="cannot be read as tensors") as error:
            read_pth(tmp_path / name)
        assert "can still be loaded" not in str(error.value)  # torch's advice
    assert not (tmp_path / "never-made").exists()


def test_settings_beside_the_tensors_are_read(tmp_path):
    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(input_size=112)}, tmp_path / "c.pth")
    found = read_pth(tmp_path / "c.pth")
    assert found["args"].input_size == 112
    assert torch.equal(state_dict(found, tmp_path / "c.pth")["a"], torch.ones(2))
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="no state dict"):
        state_dict(read_pth(tmp_path / "c.pth"), tmp_path / "c.pth")


def test_folders_whole_in_parts_and_as_bin(tmp_path):
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    whole, parts, old = (tmp_path / name for name in ("whole", "parts", "old"))
    for folder in (whole, parts, old):
        folder.mkdir()
    save_file(tensors, whole / "model.safetensors")
    save_file({"a": tensors["a"]}, parts / "x-1.safetensors")
    save_file({"b": tensors["b"]}, parts / "x-2.safetensors")
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}))
    torch.save(tensors, old / "pytorch_model.bin")
    for folder in (whole, parts, old):
        found = read_folder(folder)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../whole/model.safetensors"}}))
    with pytest.raises(InputError, match="outside its folder"):
        read_folder(parts)
    (parts / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match="no weights"):
        read_folder(parts)


def test_names_are_joined_split_and_strict():
    names = {"x": ("p", "q"), "y": ("r",)}
    there = {"p": torch.tensor([[1.0]]), "q": torch.tensor([[2.0]]), "r": torch.tensor([3.0], dtype=torch.float16)}
    ours = take_names(there, names, "it")
    assert ours["x"].tolist() == [[1.0], [2.0]]
    assert ours["y"].dtype == torch.float32
    back = give_names({**ours, "sampler": torch.zeros(1)}, names)
    assert {name: tensor.tolist() for name, tensor in back.items()} == {"p": [[1.0]], "q": [[2.0]], "r": [3.0]}
    with pytest.raises(InputError, match="missing q; unexpected z"):
        take_names({"p": there["p"], "r": there["r"], "z": there["r"]}, names, "it")


@pytest.mark.parametrize(
    "names", [("q_bias", "v_bias"), ("query.bias", "value.bias"), ("q_bias", "v_bias", "query.bias", "value.bias", "key.bias")]
)
def test_every_spelling_of_the_biases_is_read(names):
    values = {"q": torch.tensor([1.0]), "v": torch.tensor([2.0]), "k": torch.tensor([9.0])}
    found = join_spellings({A + name: values[name[0]].clone() for name in names} | {"other": values["k"]}, "it")
    assert {name: float(tensor) for name, tensor in found.items()} == {A + "q_bias": 1.0, A + "v_bias": 2.0, "other": 9.0}
    assert set(split_spellings(found)) == {A + name for name in ("q_bias", "v_bias", "query.bias", "value.bias")} | {"other"}


def test_spellings_that_disagree_are_an_error():
    with pytest.raises(InputError, match="two different biases"):
        join_spellings({A + "q_bias": torch.ones(1), A + "query.bias": torch.zeros(1)}, "it")


def test_positions_in_double_precision():
    """Against Python's own arithmetic, at the size where single-precision exponents show."""
    import math

    table = position_table(VitConfig(pos="sincos1d-double"), 768)
    for n, channel in ((1567, 201), (1567, 200), (1000, 401), (1, 767), (0, 0)):
        angle = n / 10000 ** (2 * (channel // 2) / 768)
        assert float(table[n, channel]) == pytest.approx(math.cos(angle) if channel % 2 else math.sin(angle), abs=1e-7)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "out"
    with replacing_folder(out) as partial:
        (partial / "config.json").write_text("{}")
        assert not out.exists()

    def fails() -> None:
        with replacing_folder(out) as partial:
            (partial / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["config.json"]


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    check_out(tmp_path / "mine", tmp_path / "source", ("config.json",))
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="holds no model"):
        check_out(tmp_path / "mine", tmp_path / "source", ("config.json",))
    (tmp_path / "mine" / "config.json").write_text("")
    check_out(tmp_path / "mine", tmp_path / "source", ("config.json",))
    with pytest.raises(UsageError, match="the source itself"):
        check_out(tmp_path / "mine", tmp_path / "mine", ("config.json",))


def test_what_would_be_deleted_with_the_old_folder_is_refused(tmp_path, monkeypatch):
    """A web app has a config.json too; a folder with both marks may hold the source; nobody wants the folder under them replaced."""
    out, source, marks = tmp_path / "app", tmp_path / "app" / "weights" / "published.pth", ("model.safetensors", "config.json")
    source.parent.mkdir(parents=True)
    (out / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no model"):
        check_out(out, tmp_path / "elsewhere", marks)
    (out / "model.safetensors").write_text("")
    with pytest.raises(UsageError, match="holds the source"):
        check_out(out, source, marks)
    check_out(out, tmp_path / "elsewhere", marks)
    monkeypatch.chdir(out)
    with pytest.raises(UsageError, match="the folder you are in"):
        check_out(Path("."), tmp_path / "elsewhere", marks)


def test_the_old_folder_goes_last(tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)

    def rename(source, target, real=os.rename):
        if target == out and len(renamed) == 1:
            renamed.append("failed")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        renamed.append(source.name)
        real(source, target)

    renamed: list[str] = []
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError), replacing_folder(out):
        pass
    assert [path.name for path in out.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
