"""`vid convert` as a user calls it."""

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch
from tiny_classifier import tiny_classifier

from tasks.core import hub
from tasks.core.checkpoint import save_model
from tasks.core.nn.config import VitConfig
from vidcli.app import main

VIT = VitConfig(size="tiny", dim=32, depth=1, heads=2, image_size=16, frames=4, tubelet=2, patch=8)


def vid(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def model(tmp_path) -> Path:
    module, saved = tiny_classifier(VIT)
    save_model(tmp_path / "model", module.state_dict(), saved, "# a card\n")
    return tmp_path / "model"


def test_there_and_back(model, tmp_path):
    code, out, err = vid("convert", model, "--to", "transformers", "-o", tmp_path / "theirs", "--json")
    assert code == 0, err
    assert json.loads(out)["class"] == "VideoMAEForVideoClassification"
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    code, out, err = vid("convert", tmp_path / "theirs", "-o", tmp_path / "again", "--json")
    assert code == 0, err
    assert json.loads(out)["task"] == "classify"


def test_a_model_on_the_hub_is_fetched_once(model, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(hub, "fetch_model", lambda reference: fetched.append(reference) or model)
    code, _, err = vid("convert", "hf://org/repo", "--to", "transformers", "-o", tmp_path / "theirs")
    assert (code, fetched) == (0, ["hf://org/repo"]), err


def test_onnx(model, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    code, out, err = vid("convert", model, "--to", "onnx", "-o", tmp_path / "onnx", "--json")
    assert code == 0, err
    assert json.loads(out)["max_difference"] < 1e-4
    assert json.loads(out)["input"] == ["batch", 4, 3, 16, 16]


def test_every_kind_of_file_is_recognised(tmp_path):
    from vidcli.commands.convert import MARKS, recognise

    for mark, known in MARKS.items():
        for prefix in ("", "module."):
            torch.save({"state_dict": {prefix + mark: torch.zeros(1), "more": torch.zeros(1)}}, tmp_path / "file.pth")
            assert recognise(tmp_path / "file.pth") == known


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("{model}", "-o", "x"), 2, "model folder already"),
        (("{model}", "-o", "x", "--to", "tensorflow"), 2, "cannot convert to 'tensorflow'"),
        (("{model}", "-o", "x", "--from", "moco"), 2, "cannot convert from 'moco'"),
        (("{model}", "-o", "x", "--from", "transformers", "--to", "onnx"), 2, "leave --from out"),
        (("nowhere", "-o", "x"), 3, "no such file or folder"),
        (("other", "-o", "x"), 3, "holds VivitModel"),
        (("other", "-o", "x", "--to", "onnx"), 2, "convert it first"),
        (("unknown.pth", "-o", "x"), 3, "none of the weights known here"),
        (("resnet.pth", "-o", "x", "--from", "moco-v2"), 2, "looks like torchvision-resnet50"),
    ],
)
def test_what_cannot_be_converted_is_said(model, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "vivit", "architectures": ["VivitModel"]}))
    torch.save({"a": torch.zeros(1)}, tmp_path / "unknown.pth")
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    found, _, err = vid("convert", *(word.format(model=model) for word in words))
    assert (found, said in err) == (code, True), err
    assert not (tmp_path / "x").exists()
