"""Video-text pretraining as a user calls it: from videos with sentences to a model that other commands take."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_toys import clip_folder
from safetensors.torch import load_file

from tasks.core.checkpoint import load_config, load_weights
from tasks.core.data.features import FeatureFolder
from tasks.core.data.synthetic_captions import render_caption_set
from tasks.core.engine.run import read_metrics
from tasks.core.errors import UsageError
from tasks.core.towers import load_encoder, load_text_tower
from tasks.core.towers.identity import tensors_hash
from vidcli.app import main

FEW = {"train": 8, "val": 4, "held": 3}
SMALL = ["model.dim=32", "model.depth=1", "model.heads=2", "method.dropout.decoder.dim=16", "data.workers=0"]
SMALL += ["train.batch_size=4", "train.max_steps=3", "train.log_every_steps=1", "train.save_every_steps=1", "train.keep_last=9"]
NEW = ["method.text.new.width=16", "method.text.new.depth=1", "method.dim=12"]


def vid(manifest: Path, out: Path, *sets: str) -> int:
    """Exit code of `vid pretrain`."""
    words = ["pretrain", "--preset", "contrastive/video-text-tiny", "--data", str(manifest), "--out", str(out), "-q"]
    return main(words + [word for key in (*SMALL, *sets) for word in ("--set", key)])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return render_caption_set(tmp_path_factory.mktemp("shapes"), 0, FEW, size=32, frames=18)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    return render_caption_set(tmp_path_factory.mktemp("films"), 0, {"train": 3, "val": 2}, scenes=2, size=32, frames=24)


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory) -> Path:
    """A run that trained its own text."""
    out = tmp_path_factory.mktemp("runs") / "new"
    assert vid(shapes, out, *NEW, f"data.val=[{shapes}@val,{shapes}@held]") == 0
    return out


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("towers") / "clip")


@pytest.fixture(scope="module")
def mapped(shapes, clip, tmp_path_factory) -> Path:
    """A run with a frozen tower and a map behind it."""
    out = tmp_path_factory.mktemp("runs") / "mapped"
    assert vid(shapes, out, f"method.text.tower={clip}", "method.dim=12") == 0
    return out


def test_what_a_run_reports_and_keeps(trained):
    result = json.loads((trained / "result.json").read_text())
    for split, count in (("val", 4), ("held", 3)):
        assert result[f"{split}_n"] == result[f"{split}_sentences"] == count
        assert result[f"{split}_chance_v2t_r1"] == pytest.approx(100 / count)
        assert 0 <= result[f"{split}_v2t_r1"] <= 100
    assert {"task_loss", "reconstruction", "top1"} <= result.keys()
    saved = load_config(trained / "model")
    assert saved["pair"] == {"dim": 12, "scale": pytest.approx(1 / 0.07), "cosine": True}
    names = {name.split(".")[0] for name in load_weights(trained / "model")}
    assert names == {"encoder", "video_projection", "text"}  # no decoder
    assert "symmetric InfoNCE" in (trained / "model" / "README.md").read_text()


def test_killed_it_goes_on_bit_for_bit(trained, shapes, tmp_path):
    copy = tmp_path / "killed"
    shutil.copytree(trained, copy)
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "model")
    for checkpoint in (copy / "checkpoints").glob("step-*"):
        if not checkpoint.name.startswith("step-00000001"):
            shutil.rmtree(checkpoint)
    assert vid(shapes, copy, *NEW, f"data.val=[{shapes}@val,{shapes}@held]") == 0
    assert [row["loss"] for row in read_metrics(copy / "metrics.jsonl") if row["kind"] == "train"] == [
        row["loss"] for row in read_metrics(trained / "metrics.jsonl") if row["kind"] == "train"
    ]
    ours, theirs = load_weights(copy / "model"), load_weights(trained / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_frozen_tower_is_kept_nowhere_and_stays_as_it_is(mapped, clip):
    tower = load_text_tower(clip)
    before = tensors_hash(tower.network.state_dict(), [])
    kept = load_file(mapped / "checkpoints" / "step-00000002" / "model.safetensors")
    assert {name.split(".")[1] for name in kept if name.startswith("model.")} == {"encoder", "video_projection", "text_projection"}
    assert not any(tensor.shape == tower.network.tokens.weight.shape for tensor in kept.values())
    saved = load_config(mapped / "model")
    assert saved["text_tower"] == {**tower.source, "reference": str(clip)}
    assert json.loads((mapped / "run.json").read_text())["text_tower"] == saved["text_tower"]
    assert tensors_hash(load_text_tower(clip).network.state_dict(), []) == before


def test_features_and_sentences_lie_in_one_space(trained, shapes, tmp_path):
    """What the commands write is what the model's own test compares."""

    assert (
        main(["extract-features", str(shapes.parent / "held"), "--model", str(trained), "-o", str(tmp_path / "f"), "--clips", "1", "-q"])
        == 0
    )
    with open(shapes, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "held"]
    folder = FeatureFolder(tmp_path / "f")
    clips = np.stack([folder.get(Path(row["path"]).stem).values.reshape(-1) for row in rows])
    text = load_text_tower(str(trained))([row["text"] for row in rows]).numpy()
    assert clips.shape == text.shape == (3, 12)
    clips, text = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (clips, text))
    similar = clips @ text.T
    ahead = np.diag(similar) - np.where(np.eye(3), -np.inf, similar).max(1)
    own = json.loads((trained / "result.json").read_text())["held_v2t_r1"] / 100
    assert (ahead > 0.01).mean() - 1e-6 <= own <= (ahead > -0.01).mean() + 1e-6  # half-precision features decide no near tie


def test_the_frozen_tower_is_found_again_by_its_hash(mapped, clip, tmp_path):
    texts = ["a red square", "the cat"]
    found = load_text_tower(mapped)
    projection = load_weights(mapped / "model")["text_projection.weight"]
    torch.testing.assert_close(found(texts), load_text_tower(clip)(texts) @ projection.T)
    assert (found.dim, found.scale) == (12, pytest.approx(1 / 0.07))
    assert found.source["kind"] == "pair-text"
    moved = tmp_path / "moved"
    shutil.copytree(mapped / "model", moved)
    shutil.copytree(clip, moved / "clip")
    torch.testing.assert_close(load_text_tower(moved)(texts), found(texts))
    clip_folder(moved / "other", depth=1)
    shutil.rmtree(moved / "clip")
    (moved / "other").rename(moved / "clip")
    with pytest.raises(UsageError, match="is another"):
        load_text_tower(moved)


def test_sentences_with_times_are_aligned(films, tmp_path):
    assert vid(films, tmp_path / "run", *NEW, f"data.val=[{films}]") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["align_n"] == result["n"] == 4
    assert result["align_chance"] == pytest.approx((3 / 4 + 2 / 4) / 2 * 100)  # of four seconds 0, 1, 2 are right, or 2, 3
    assert 0 <= result["align_r1"] <= 100


def test_the_encoder_goes_on_into_a_classifier(trained, shapes, tmp_path):
    words = [
        "finetune",
        "--preset",
        "classify/turbo-tiny",
        "--from",
        str(trained),
        "--data",
        str(shapes),
        "--out",
        str(tmp_path / "tuned"),
        "-q",
    ]
    words += ["--set", "turbo.decoder.dim=16", "--set", "train.batch_size=4", "--max-steps", "1", "--workers", "0"]
    assert main(words) == 0
    names = load_weights(tmp_path / "tuned" / "model")
    assert "encoder.cls_token" in names
    assert not any("projection" in name or name.startswith("text") for name in names)
    start = load_weights(trained / "model")["encoder.cls_token"]
    assert (names["encoder.cls_token"] - start).abs().max() < 0.05  # it went on from there
    assert load_encoder(trained)(torch.zeros(8, 32, 32, 3, dtype=torch.uint8))["pooled"].shape == (1, 32)


def test_it_starts_from_an_encoder_without_a_class_token(trained, shapes, tmp_path):
    assert vid(shapes, tmp_path / "plain", *NEW, "model.class_token=false", "train.max_steps=1") == 0
    assert vid(shapes, tmp_path / "next", *NEW, f"init={tmp_path / 'plain'}", "train.max_steps=1", "optim.base_lr=1e-9") == 0
    first, then = (load_weights(tmp_path / name / "model") for name in ("plain", "next"))
    torch.testing.assert_close(then["encoder.embed.weight"], first["encoder.embed.weight"], atol=1e-6, rtol=0)
    assert "encoder.cls_token" in then
    assert vid(shapes, tmp_path / "no", *NEW, f"init={trained}", "model.depth=2") == 2


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["method.text.new=null"], "nothing says what reads the sentences"),
        (["method.text.tower=nowhere"], "no model at 'nowhere'"),
        (["train.batch_size=1"], "in a batch of one pair"),
        (["method.dropout.mask=0.99", "method.dropout.reconstruct=0"], "none of a clip's 64 tokens"),
        (["model.family=s3d"], "needs an encoder of the family vit"),
    ],
)
def test_what_cannot_be_is_one_clear_line(sets, told, shapes, tmp_path, capsys):
    assert vid(shapes, tmp_path / "run", *sets) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_manifest_without_sentences_is_refused(shapes, tmp_path, capsys):
    (tmp_path / "bare.csv").write_text(f"path\n{shapes.parent / 'val' / '00000.mp4'}\n")
    assert vid(tmp_path / "bare.csv", tmp_path / "run") == 3
    assert "have no sentence" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["trained", "mapped"])
def test_videos_are_found_by_sentences(which, shapes, tmp_path, request, capsys):
    run, index = request.getfixturevalue(which), str(tmp_path / "i")
    assert main(["index", str(shapes.parent / "held"), "--model", str(run), "-o", index, "-q"]) == 0
    capsys.readouterr()
    assert main(["search", "a red square moves to the left", "--in", index, "--per", "video", "--json", "-q"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found[0]["score"] >= found[-1]["score"]
    assert len(found) == FEW["held"]
