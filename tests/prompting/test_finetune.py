"""`vid finetune` and `vid eval classify` of prompts as a user calls them."""

import csv
import json
import shutil

import numpy as np
import prompting_toys as toys
import pytest
import yaml
from clip_toys import clip_folder
from painted import write_video

from tasks.core.checkpoint import load_config, load_weights
from vidcli.app import main


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Features, labels, a CLIP model, a preset, and a run of it."""
    folder = toys.write_world(tmp_path_factory.mktemp("world"), 16)
    settings = json.loads(json.dumps(toys.config().model_dump(mode="json", exclude_unset=True)))
    settings |= {"task": "prompting", "verb": "finetune", "clip": str(folder / "clip"), "train": {"epochs": 25, "batch_size": 4}}
    settings["data"] = {"streams": {"visual": {"folder": str(folder / "features")}}, "workers": 0}
    (folder / "small.yaml").write_text(yaml.safe_dump(settings))
    assert main(finetune(folder, "--val", f"{folder}/videos.csv@val", "--out", folder / "run")) == 0
    return folder


def finetune(folder, *words):
    given = ["finetune", "--preset", folder / "small.yaml", "--data", f"{folder}/videos.csv@train", *words]
    return [str(word) for word in given]


def evaluate(folder, *words):
    stream = ("--set", f"data.streams.visual.folder={folder / 'features'}", "--workers", "0")
    return [str(word) for word in ("eval", "classify", "--data", f"{folder}/videos.csv@val", *stream, *words)]


def result_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_run_learns_and_keeps_no_tower(world):
    result = json.loads((world / "run" / "result.json").read_text())
    assert result["top1"] == 100
    assert result["zero_shot_top1"] < 100
    assert result["avg"] == (result["top1"] + result["top5"]) / 2
    saved, weights = load_config(world / "run" / "model"), load_weights(world / "run" / "model")
    assert set(saved["text_tower"]) >= {"reference", "revision", "weights_hash"}
    assert {name.split(".")[0] for name in weights} == {"prompts", "temporal"}
    with open(world / "run" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["predicted"] for row in rows]
    checkpoints = [file for file in (world / "run" / "checkpoints").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in checkpoints) < 400_000  # the tower alone has more


def test_evaluation_is_that_of_the_run(world, tmp_path, capsys):
    trained = json.loads((world / "run" / "result.json").read_text())
    assert main(evaluate(world, "--model", world / "run", "--json", "--out", tmp_path / "o", "--write", "csv")) == 0
    found = result_of(capsys)
    assert (found["top1"], found["protocol"], found["n"]) == (trained["top1"], "prompted", trained["n"])
    with open(tmp_path / "o" / "prompted.csv") as one, open(world / "run" / "predictions.csv") as other:
        assert one.read() == other.read()
    assert main(evaluate(world, "--model", world / "run", "--protocol", "zero-shot", "--json")) == 0
    assert result_of(capsys)["top1"] == trained["zero_shot_top1"]


def test_any_clip_model_is_tested_without_training(world, capsys):
    trained = json.loads((world / "run" / "result.json").read_text())
    assert main(evaluate(world, "--model", world / "clip", "--protocol", "zero-shot", "--set", "frames=4", "--json")) == 0
    assert result_of(capsys)["n"] == trained["n"]


def test_classes_that_training_never_saw(world, tmp_path, capsys):
    rows = (world / "videos.csv").read_text().replace("resting_cat", "a_photographed_cat")
    (tmp_path / "new.csv").write_text(rows)
    words = [*evaluate(world, "--model", world / "run", "--json")]
    words[words.index("--data") + 1] = f"{tmp_path}/new.csv@val"
    assert main(words) == 3
    assert "that the model does not know: a_photographed_cat" in capsys.readouterr().err
    assert main([*words, "--set", "classes=data"]) == 0
    assert result_of(capsys)["classes"] == 4


def test_from_pixels_and_from_a_run(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        write_video(tmp_path / f"v{number}.mp4", 12)
    rows = ["path,label", *(f"v{number}.mp4,{toys.LABELS[number]}" for number in range(4))]
    (tmp_path / "videos.csv").write_text("\n".join(rows))
    preset = yaml.safe_load((world / "small.yaml").read_text())
    (tmp_path / "pixels.yaml").write_text(yaml.safe_dump({**preset, "data": {"workers": 0}, "features": {"hop_s": 0.1}}))
    both = f"{tmp_path}/videos.csv"
    words = ["finetune", "--preset", str(tmp_path / "pixels.yaml"), "--data", both, "--val", both, "--out", str(tmp_path / "run")]
    words += ["--max-steps", "2", "--json"]
    assert main(words) == 0
    made = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run" / "features" / "visual").glob("*.npz")}
    assert len(made) == 4
    saved = load_config(tmp_path / "run" / "model")
    assert saved["streams"]["visual"]["encoder"]["weights_hash"]
    capsys.readouterr()
    again = ["eval", "classify", "--model", str(tmp_path / "run"), "--data", f"{tmp_path}/videos.csv", "--json"]
    assert main(again) == 0
    assert result_of(capsys)["top1"] == json.loads((tmp_path / "run" / "result.json").read_text())["top1"]
    second = [*words, "--from", str(tmp_path / "run"), "--set", f"features.folder={tmp_path / 'run' / 'features'}"]
    second[second.index("--out") + 1] = str(tmp_path / "second")
    assert main(second) == 0
    assert made == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run" / "features" / "visual").glob("*.npz")}
    clip_folder(tmp_path / "other", activation="gelu")
    assert main([*again, "--set", f"clip={tmp_path / 'other'}"]) == 2
    assert "is another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--set", "clip=null"), 2, "which CLIP model reads the names"),
        (("--set", "clip=nowhere"), 2, "no model at 'nowhere'"),
        (("--set", "data.streams.more.folder=x"), 2, "one stream of features"),
        (("--set", "model.temporal.heads=3"), 2, "do not divide by model.temporal.heads 3"),
        (("--set", "template=dog"), 2, "a template has one {}"),
        (("--set", "model.prompts={before: 0, after: 0}", "--set", "model.temporal.layers=0"), 2, "nothing to learn"),
        (("--set", "model.prompts.before=40"), 3, "leave no token for a name"),
        (("--set", "model.gaps=[2, 1]"), 2, "increasing"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(world, tmp_path, capsys, words, code, said):
    assert main(finetune(world, "--out", tmp_path / "run", *words)) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_one_class_only(world, tmp_path, capsys):
    (tmp_path / "one.csv").write_text("path,label\nv0.mp4,dog\nv1.mp4,dog\n")
    words = finetune(world, "--out", tmp_path / "run")
    words[words.index("--data") + 1] = str(tmp_path / "one.csv")
    assert main(words) == 3
    assert "all training videos are of one class, 'dog'" in capsys.readouterr().err


def test_flags_without_a_meaning_are_refused(world, capsys):
    assert main(evaluate(world, "--model", world / "run", "--crops", "3")) == 2
    assert "--crops has no meaning for a model with prompts" in capsys.readouterr().err


def test_features_of_nan_are_skipped_and_named(world, tmp_path, capsys):
    shutil.copytree(world / "features", tmp_path / "features")
    with np.load(tmp_path / "features" / "v15.features.npz") as kept:
        arrays = dict(kept)
    arrays["features"][2] = np.nan
    np.savez(tmp_path / "features" / "v15.features.npz", **arrays)
    words = evaluate(world, "--model", world / "run", "--json")
    words[words.index("--set") + 1] = f"data.streams.visual.folder={tmp_path / 'features'}"
    assert main(words) == 4
    captured = capsys.readouterr()
    assert "v15.mp4" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["n_skipped"] == 1
