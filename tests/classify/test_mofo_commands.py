"""MOFO by command, from pretraining to prediction: boxes ride along everywhere, and a model that needs them finds them itself."""

import csv
import json

import numpy as np
import pytest
import torch
from test_classify import vid

from tasks.classify.predict import load
from tasks.core.data.synthetic import render_motion_set
from tasks.core.towers import load_encoder

SIZE = 32
READ = ("data.clip={frames: 4, stride_frames: 2}", "data.workers=0", "data.preload=true", "augment.crop=none", "train.log_every_steps=1")
SETS = [word for setting in READ for word in ("--set", setting)]
MODEL = ("frames=4", "dim=24", "depth=1", "heads=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder, manifest) with `pre`, pretrained by the sampler mofo, and `ft`, fine-tuned with its head; a motion set."""
    folder = tmp_path_factory.mktemp("mofo")
    manifest = render_motion_set(folder / "videos", 3, 0, SIZE, 10)
    model = [word for setting in MODEL for word in ("--set", f"model.{setting}")]
    small = ["--set", "decoder={dim: 16, depth: 1, heads: 1}", "--epochs", 1, "--visualize", 1, "--batch-size", 6]
    vid("pretrain", "--preset", "masked/mofo-tiny", *model, *small, *SETS, "--data", manifest, "--out", folder / "pre", "--json")
    words = ("--from", folder / "pre", "--data", manifest, "--val", manifest, "--epochs", 2, "--batch-size", 6, *SETS, "--json")
    result = vid("finetune", "--preset", "classify/mofo-tiny", *words, "--set", "data.boxes.compute.mode=code", "--out", folder / "ft")
    (folder / "result.json").write_text(json.dumps(result))
    return folder, manifest


def logged(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_metrics_count_what_the_boxes_were(place):
    folder, _ = place
    row = logged(folder / "pre")[0]
    assert 0 < row["inner_share"] < 1
    assert {"inner_hidden", "without_area", "spilled", "nothing_moves"} <= set(row)
    assert list((folder / "pre/pictures").glob("*.png"))
    row = logged(folder / "ft")[0]
    assert 0 < row["inner_share"] < 1
    assert {"without_inner", "without_outer", "nothing_moves"} <= set(row)


def test_model_folders_say_how_boxes_are_found(place):
    folder, _ = place
    pre, ft = (json.loads((folder / name / "model/config.json").read_text()) for name in ("pre", "ft"))
    assert (pre["method"], pre["sampler"]["rule"], pre["boxes"]["control"]) == ("mofo", "strict", None)
    assert "boxes" not in pre["preprocessing"]  # its encoder looks at none
    assert ft["head"]["mca"] == {"heads": 3, "depth": 1}
    assert ft["preprocessing"]["boxes"] == {"compute": {"mode": "code", "flow": "dis", "short_side": 240}, "control": None}
    assert "boxes around what moves" in (folder / "ft/model/README.md").read_text()


def test_testing_repeats_the_numbers_of_training_and_python_gives_them_too(place, tmp_path):
    folder, manifest = place
    words = ("--clips", 2, "--crops", 1, "--workers", 0, "--json")
    found = vid("eval", "classify", "--model", folder / "ft", "--data", manifest, *words, "--scores", tmp_path / "scores.csv")
    trained = json.loads((folder / "result.json").read_text())
    assert {name: found[name] for name in ("top1", "top5", "n")} == {name: trained[name] for name in ("top1", "top5", "n")}
    row = next(csv.DictReader((tmp_path / "scores.csv").open()))
    model = load(folder / "ft")
    assert model.predict(row["path"], 2, 1) == pytest.approx({label: float(row[label]) for label in model.labels}, abs=2e-6)


def test_boxes_of_a_file_change_the_numbers_and_nothing_else_about_boxes_can_be_said(place, tmp_path, capsys):
    from vidcli.app import main

    folder, manifest = place
    paths = [row["path"] for row in csv.DictReader(manifest.open())]
    lines = [f"{path},0,0,0,8,8" for path in paths]
    (tmp_path / "boxes.csv").write_text("\n".join(["video,frame,x1_px,y1_px,x2_px,y2_px", *lines]) + "\n")
    scores = []
    for number, given in enumerate(([], ["--set", f"data.boxes={tmp_path / 'boxes.csv'}"])):
        words = ("--clips", 1, "--crops", 1, "--workers", 0, "--json", "--scores", tmp_path / f"{number}.csv")
        vid("eval", "classify", "--model", folder / "ft", "--data", manifest, *words, *given)
        rows = list(csv.DictReader((tmp_path / f"{number}.csv").open()))
        scores.append(np.array([[float(value) for value in list(row.values())[3:]] for row in rows]))
    assert np.abs(scores[0] - scores[1]).max() > 1e-5
    words = ["eval", "classify", "--model", str(folder / "ft"), "--data", str(manifest), "--workers", "0"]
    assert main([*words, "--set", "data.boxes.control=whole"]) == 2
    assert "how boxes are found is a part of the model" in capsys.readouterr().err


def test_features_of_its_encoder_need_no_boxes(place, tmp_path):
    folder, _ = place
    path = next((folder / "videos").rglob("*.mp4"))
    for model in ("pre", "ft"):
        vid("extract-features", path, "--model", folder / model, "--out", tmp_path / model, "--clips", 2, "--crops", 1, "--json")
        with np.load(tmp_path / model / f"{path.stem}.features.npz") as file:
            np.testing.assert_allclose(file["features"], load_encoder(folder / model).features(path, 2, 1).numpy(), atol=1e-5)


def test_converters_take_boxes_or_say_why_not(place, tmp_path, capsys):
    from vidcli.app import main

    folder, _ = place
    assert main(["convert", str(folder / "ft"), "--to", "transformers", "-o", str(tmp_path / "x")]) == 2
    assert "has no head that looks at boxes" in capsys.readouterr().err
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert vid("convert", folder / "ft", "--to", "onnx", "-o", tmp_path / "onnx", "--json")["output"] == "logits"
    model = load(folder / "ft")
    video = torch.randn(3, 4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[4.0, 4, 20, 28], [0, 0, 0, 0], [0, 0, 32, 32]])[:, None].repeat(1, 4, 1)
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx/model.onnx"))
    (found,) = session.run(None, {"video": video.numpy(), "boxes": boxes.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(video, boxes).numpy(), atol=1e-4)
    assert json.loads((tmp_path / "onnx/config.json").read_text())["onnx"]["input"] == ["video", "boxes"]


def test_a_plan_counts_the_head_and_a_dry_run_looks_at_the_boxes(place, tmp_path, capsys):
    from vidcli.app import main

    folder, manifest = place
    words = ("--from", folder / "pre", "--data", manifest, *SETS)
    plan = vid("finetune", "--preset", "classify/mofo-tiny", *words, "--plan", "--json")
    parameters = next(line for key, line in plan.items() if key.startswith("parameters"))["value"]
    plain = vid("finetune", "--preset", "classify/tiny", *words, "--plan", "--json")
    block = 4 * 24**2 + 3 * 24 + 2 * 4 * 24**2 + 4 * 24 + 24 + 4 * 24
    assert parameters - next(line for key, line in plain.items() if key.startswith("parameters"))["value"] == block
    (tmp_path / "boxes.csv").write_text("video,frame,x1_px,y1_px,x2_px,y2_px\nother.mp4,0,1,1,5,5\n")
    given = [str(word) for word in (*words, "--set", f"data.boxes={tmp_path / 'boxes.csv'}", "--out", tmp_path / "run")]
    for verb, preset in (("pretrain", "masked/mofo-tiny"), ("finetune", "classify/mofo-tiny")):
        took = given if verb == "finetune" else given[2:]
        assert main([verb, "--preset", preset, *took, *(["--set", "model.frames=4"] if verb == "pretrain" else []), "--dry-run"]) == 3
        assert "boxes of none of the" in capsys.readouterr().err


def test_videos_without_boxes_are_said_and_used(place, tmp_path, capsys):
    folder, manifest = place
    path = next(row["path"] for row in csv.DictReader(manifest.open()) if row["path"])
    (tmp_path / "boxes.csv").write_text(f"video,frame,x1_px,y1_px,x2_px,y2_px\n{path},0,4,4,20,20\n")
    words = ("--from", folder / "pre", "--data", manifest, "--epochs", 1, "--batch-size", 6, *SETS, "--out", tmp_path / "run")
    vid("finetune", "--preset", "classify/mofo-tiny", *words, "--set", f"data.boxes={tmp_path / 'boxes.csv'}", "--json")
    assert "has no boxes of" in capsys.readouterr().err + (tmp_path / "run/log.txt").read_text()
    assert max(row.get("without_inner", 0) for row in logged(tmp_path / "run")) > 0.5
