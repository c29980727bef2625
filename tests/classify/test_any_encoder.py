"""What a ResNet of `vid pretrain` for boundaries can be used for here, by command: everything that a transformer can."""

import csv
import json

import numpy as np
import pytest
import torch
from encoder_toys import SIZE, encoder_folder
from safetensors.torch import load_file
from test_classify import vid

from tasks.core.data.synthetic import render_motion_set
from tasks.core.towers import load_encoder

READ = ("data.clip={frames: 4, stride_frames: 2}", f"data.short_side={SIZE}", "data.workers=0", "data.preload=true", "augment.crop=none")
SETS = [word for setting in READ for word in ("--set", setting)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder, manifest) with a model folder `pre` as boundaries publish it, and a motion set."""
    folder = tmp_path_factory.mktemp("any")
    encoder_folder(folder / "pre", "resnet", "boundaries")
    return folder, render_motion_set(folder / "videos", 5, 0, SIZE, 12)


@pytest.fixture(scope="module")
def tuned(place):
    folder, manifest = place
    words = ("--data", manifest, "--val", manifest, "--out", folder / "ft", "--epochs", 2, *SETS, "--json")
    return vid("finetune", "--preset", "classify/tiny", "--from", folder / "pre", "--set", "optim.layer_decay=0.8", *words)


def test_fine_tuning_trains_every_layer_and_testing_repeats_its_number(place, tuned):
    folder, manifest = place
    before, after = load_file(folder / "pre/model.safetensors"), load_file(folder / "ft/model/model.safetensors")
    weights = [name for name in before if name.startswith("encoder.") and name.endswith("weight")]
    assert weights
    assert not any(torch.equal(before[name], after[name]) for name in weights)
    saved = json.loads((folder / "ft/model/config.json").read_text())
    assert (saved["architecture"]["family"], saved["preprocessing"]["image_size"]) == ("resnet", SIZE)
    words = ("--clips", 2, "--crops", 1, "--workers", 0, "--json", "--out", folder / "tested", "--write", "csv")
    found = vid("eval", "classify", "--model", folder / "ft", "--data", manifest, *words)
    assert {name: found[name] for name in ("top1", "top5", "n")} == {name: tuned[name] for name in ("top1", "top5", "n")}
    rows = list(csv.DictReader((folder / "tested/finetuned.csv").open()))
    assert 100 * np.mean([row["label"] == row["predicted"] for row in rows]) == pytest.approx(found["top1"])
    assert json.loads((folder / "tested/finetuned.json").read_text()) == found


def test_from_scratch_by_settings(place, tmp_path):
    _, manifest = place
    model = ("family=resnet", "size=resnet18", "width=8", f"image_size={SIZE}", "motion=null")
    words = [word for setting in model for word in ("--set", f"model.{setting}")]
    words += ["--data", manifest, "--val", manifest, "--out", tmp_path / "run", "--epochs", 1, *SETS, "--json"]
    assert vid("finetune", "--preset", "classify/tiny-scratch", *words)["n"] == 10


@pytest.mark.parametrize("mode", ["linear", "mlp", "attentive"])
def test_probes_leave_the_encoder_as_it_was(place, mode, tmp_path):
    folder, manifest = place
    preset = "attentive-probe" if mode == "attentive" else "linear-probe"
    words = ("--data", manifest, "--out", tmp_path / "run", "--epochs", 1, "--batch-size", 8, *SETS, "--json")
    vid("finetune", "--preset", f"classify/{preset}", "--set", f"head.mode={mode}", "--from", folder / "pre", *words)
    before, after = load_file(folder / "pre/model.safetensors"), load_file(tmp_path / "run/model/model.safetensors")
    encoder = [name for name in before if name.startswith("encoder.")]
    assert all(torch.equal(before[name], after[name]) for name in encoder)


@pytest.mark.parametrize("protocol", ["knn", "retrieval"])
def test_frozen_features(place, protocol):
    folder, manifest = place
    words = ("--gallery", manifest, "--protocol", protocol, "--clips", 1, "--crops", 1, "--center", "own", "--workers", 0, "--json")
    found = vid("eval", "classify", "--model", folder / "pre", "--model", folder / "pre", "--data", manifest, *words)
    assert (found["n"], found["center"], found["model"]) == (10, "own", [str(folder / "pre")] * 2)
    once = vid("eval", "classify", "--model", folder / "pre", "--data", manifest, *words)
    numbers = ("top1", "top5") if protocol == "knn" else ("r@1", "r@5", "r@10", "r@20")
    assert [found[name] for name in numbers] == [once[name] for name in numbers]  # a model averaged with itself


def test_extracted_features_are_those_of_python(place, tmp_path):
    folder, _ = place
    path = next((folder / "videos").rglob("*.mp4"))
    words = ("--model", folder / "pre", "--out", tmp_path, "--clips", 2, "--crops", 3, "--json")
    assert vid("extract-features", path, *words)["dim"] == 64
    with np.load(tmp_path / f"{path.stem}.features.npz") as file:
        np.testing.assert_allclose(file["features"], load_encoder(folder / "pre").features(path, 2, 3).numpy(), atol=1e-5)


def test_predict_in_python_gives_the_probabilities_of_the_command(place, tuned, tmp_path):
    from tasks.classify.predict import load

    folder, manifest = place
    words = ("--clips", 1, "--crops", 10, "--scores", tmp_path / "scores.csv", "--workers", 0, "--json")
    vid("eval", "classify", "--model", folder / "ft", "--data", manifest, *words)
    row = next(csv.DictReader((tmp_path / "scores.csv").open()))
    model = load(folder / "ft")
    assert model.predict(row["path"], 1, 10) == pytest.approx({label: float(row[label]) for label in model.labels}, abs=2e-6)


def test_onnx_and_what_has_no_counterpart(place, tuned, tmp_path, capsys):
    from vidcli.app import main

    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, _ = place
    assert vid("convert", folder / "pre", "--to", "onnx", "-o", tmp_path / "onnx", "--json")["output"] == "map"
    clips = torch.randn(3, 4, 3, SIZE, SIZE)
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "onnx/model.onnx")).run(["map"], {"video": clips.numpy()})
    with torch.no_grad():
        expected = load_encoder(folder / "pre")(clips)["map"].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    for model, told in (("pre", "model of task 'boundaries'"), ("ft", "no encoders of the family 'resnet'")):
        assert main(["convert", str(folder / model), "--to", "transformers", "-o", str(tmp_path / "x")]) == 2
        assert told in capsys.readouterr().err


def test_a_plan_counts_any_encoder(place):
    folder, manifest = place
    words = ("--from", folder / "pre", "--data", manifest, *SETS, "--plan", "--json")
    plan = vid("finetune", "--preset", "classify/tiny", *words)
    encoder = load_encoder(folder / "pre")
    found = next(line for key, line in plan.items() if key.startswith("parameters"))
    assert found["value"] > sum(p.numel() for p in encoder.parameters())


def test_masked_pretraining_says_that_it_needs_a_transformer(place, capsys):
    from vidcli.app import main

    folder, manifest = place
    words = ["pretrain", "--preset", "masked/tats-tiny", "--from", str(folder / "pre"), "--data", str(manifest), "--dry-run"]
    assert main(words) == 2
    assert "of the family 'resnet', this run has 'vit'" in capsys.readouterr().err


def test_a_video_of_too_many_windows_is_skipped_with_the_reason(place, monkeypatch, capsys):
    from tasks.core.clips import loader
    from vidcli.app import main

    folder, manifest = place
    monkeypatch.setattr(loader, "MAX_WINDOWS", 2)
    words = ["eval", "classify", "--model", str(folder / "pre"), "--gallery", str(manifest), "--data", str(manifest), "--workers", "0"]
    assert main([*words, "--protocol", "knn", "--windows", "half-overlap", "--crops", "1"]) == 3
    assert "none of the videos could be read" in capsys.readouterr().err


def test_few_labels_are_drawn_class_by_class_and_said(place, tmp_path, capsys):
    folder, manifest = place
    words = ("--from", folder / "pre", "--data", manifest, "--out", tmp_path / "run", "--epochs", 1, *SETS)
    vid("finetune", "--preset", "classify/tiny", *words, "--set", "data.fraction=0.4", "--json")
    facts = json.loads((tmp_path / "run/run.json").read_text())
    told = "40 % of every class, drawn with seed 0"
    assert (facts["videos"], facts["fraction"]) == (10, told)
    assert f"10 videos ({told})" in (tmp_path / "run/log.txt").read_text()
    assert told in (tmp_path / "run/model/README.md").read_text()
    saved = json.loads((tmp_path / "run/model/config.json").read_text())
    assert (saved["provenance"]["fraction"], len(saved["labels"])) == (told, 10)
    frozen = ("--protocol", "knn", "--gallery", manifest, "--clips", 1, "--crops", 1, "--workers", 0, "--json")
    found = vid("eval", "classify", "--model", folder / "pre", "--data", manifest, *frozen, "--set", "data.fraction=0.4")
    assert (found["n_gallery"], found["fraction"]) == (10, told)
    whole = vid("eval", "classify", "--model", folder / "pre", "--data", manifest, *frozen)
    assert whole["n_gallery"] > 10
    assert "fraction" not in whole
