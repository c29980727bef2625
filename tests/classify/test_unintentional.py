"""Unintentional actions by command: from an annotation file to a tested head on a pretrained MemDPC."""

import json
from pathlib import Path

import pytest
from encoder_toys import PREPROCESSING, SIZE
from pinned import same_everywhere
from safetensors.torch import load_file
from test_classify import vid

from tasks.core.checkpoint import save_model
from tasks.core.data.manifest import read_sources
from tasks.core.data.synthetic import render_motion_set
from tasks.core.nn.config import R2D3DConfig
from tasks.predictive.config import MemDPCConfig
from tasks.predictive.model import PredictiveCoder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with videos of four seconds in `oops_video`, annotations of when they fail, and a pretrained MemDPC `pre`."""
    folder = tmp_path_factory.mktemp("oops")
    manifest = render_motion_set(folder / "oops_video", 5, 0, SIZE, 32, fps=8)
    stems = [Path(row.path).stem for row in read_sources([f"{manifest}@train"])]
    stems = {"train": stems[:6], "val": stems[6:12]}
    times = {stem: {"t": [1.6, 2.0, -1], "len": 4.0} for stem in stems["train"] + stems["val"]}
    (folder / "annotations").mkdir()
    (folder / "annotations/transition_times.json").write_text(json.dumps(times))
    for split, name in (("train", "train_filtered.txt"), ("val", "val_filtered.txt")):
        (folder / "annotations" / name).write_text("\n".join(stems[split]))
    (folder / "oops_video/manifest.csv").unlink()  # the videos alone
    model = R2D3DConfig(width=4, image_size=SIZE, block_frames=2, predict=1, bidirectional=True)
    method = MemDPCConfig(slots=6)
    saved = {"task": "predictive", "method": "memdpc", "architecture": model.model_dump(), "prediction": method.model_dump()}
    weights = same_everywhere(PredictiveCoder(model, method), vectors=0.1).state_dict()
    save_model(folder / "pre", weights, {**saved, "preprocessing": PREPROCESSING, "provenance": {}}, "")
    return folder


@pytest.fixture(scope="module")
def clips(place):
    words = (
        place / "annotations/transition_times.json",
        "--videos",
        place / "oops_video" / "train",
        "--step",
        0.5,
        "-o",
        place / "oops.csv",
    )
    found = vid("data", "import", *words, "--json")
    assert (found["format"], found["classes"], found["splits"], found["segments"]) == ("oops", 3, ["train", "val"], 12 * 7)
    return place / "oops.csv"


@pytest.mark.parametrize("preset", ["memdpc-oops-frozen", "memdpc-oops"])
def test_from_annotations_to_a_tested_head(place, clips, preset, tmp_path):
    sets = ("data.clip={frames: 6, stride_s: 0.125}", f"data.short_side={SIZE}", "data.workers=0")
    words = [word for setting in sets for word in ("--set", setting)]
    words += ["--from", place / "pre", "--data", clips, "--val", clips, "--out", tmp_path / "run", "--epochs", 1, "--batch-size", 16]
    found = vid("finetune", "--preset", f"classify/{preset}", *words, "--json")
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["videos"] == 3 * 6 * 3  # three of seven clips of a video come before or after the failure, one or two have it
    assert facts["balance"] in (tmp_path / "run/log.txt").read_text()
    assert found["n"] == 6 * 7
    saved = json.loads((tmp_path / "run/model/config.json").read_text())
    assert saved["labels"] == ["intentional", "transitional", "unintentional"]
    assert (saved["architecture"]["family"], saved["architecture"]["slots"]) == ("discrepancy", 6)
    tested = vid("eval", "classify", "--model", tmp_path / "run", "--data", clips, "--clips", 1, "--crops", 1, "--workers", 0, "--json")
    assert [tested[name] for name in ("top1", "mean_class", "n")] == [found[name] for name in ("top1", "mean_class", "n")]
    before, after = load_file(place / "pre/model.safetensors"), load_file(tmp_path / "run/model/model.safetensors")
    moved = [not before[name].equal(after[f"encoder.prediction.{name}"]) for name in ("predictor.0.weight", "memory")]
    assert moved == [preset == "memdpc-oops"] * 2
