"""`vid extract-features --model CLIP`: frames seen by a frozen image tower, kept as a folder of features."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_toys import clip_folder
from painted import write_video

from tasks.core.data.features import FeatureFolder
from tasks.core.towers import load_image_tower
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.extract import Extractor
from tasks.core.video.open import open_video


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the model `clip` and a video of 40 frames, 30 a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    clip_folder(tmp_path / "clip")
    write_video(tmp_path / "b.mp4", 40)
    return tmp_path


LINE = ("extract-features", "b.mp4", "--model", "clip", "--out", "found", "--per", "window")


def test_every_frame_has_the_vector_of_the_tower(place, vid):
    assert vid(*LINE)[0] == 0
    found = FeatureFolder("found")
    features = found.get("b")
    with open_video(str(Path("b.mp4").resolve())) as reader:
        expected = load_image_tower("clip").frames(torch.from_numpy(reader.get(range(40))))[0].numpy()
        assert features.grid.stride_s == pytest.approx(1 / 30)
    assert features.values.shape == (40, 20)
    np.testing.assert_allclose(features.values, expected, atol=1e-5)
    assert found.encoder["weights_hash"] == load_image_tower("clip").source["weights_hash"]


def test_with_a_hop_and_per_video(place, vid):
    assert vid(*LINE, "--hop", "0.2", "--batch-size", "3")[0] == 0
    features = FeatureFolder("found").get("b")
    with open_video(str(Path("b.mp4").resolve())) as reader:
        expected = load_image_tower("clip").frames(torch.from_numpy(reader.get([0, 6, 12, 18, 24, 30, 36])))[0].numpy()
    np.testing.assert_allclose(features.values, expected, atol=1e-5)
    code, _, _ = vid("extract-features", "b.mp4", "--model", "clip", "--out", "whole", "--clips", "3")
    assert code == 0
    tower = load_image_tower("clip")
    np.testing.assert_allclose(FeatureFolder("whole").get("b").values[0], tower.features("b.mp4", 3, 1).numpy(), atol=1e-5)


def test_what_is_there_is_not_done_again_and_another_tower_is_noticed(place, vid):
    vid(*LINE, "--hop", "0.2")
    _, out, _ = vid(*LINE, "--hop", "0.2", "--json")
    assert json.loads(out)["skipped"] is True
    before = FeatureFolder("found").get("b").values
    clip_folder(place / "clip", activation="gelu")  # the same name
    write_video(place / "c.mp4", 10)
    code, _, err = vid("extract-features", "c.mp4", *LINE[2:], "--hop", "0.2")
    assert code == 2
    assert "found holds clip" in err
    assert "this is clip" in err
    _, out, _ = vid(*LINE, "--hop", "0.2", "--json")
    assert "skipped" not in json.loads(out)
    assert not np.allclose(FeatureFolder("found").get("b").values, before, atol=1e-4)


def test_the_maker_of_recorded_features_is_made_again(place, vid):
    """What a model that learned from such features needs to see a new video (`localization.towers`)."""
    vid(*LINE, "--hop", "0.2")
    found = FeatureFolder("found")
    maker = Extractor(ExtractConfig(model=found.encoder["reference"], per="window", hop_s=0.2, crops=found.encoder["crops"]))
    assert maker.described["id"] == found.sidecar["id"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda clip: (clip / "model.safetensors").write_bytes(b"torn"), "not a readable safetensors file"),
        (lambda clip: (clip / "model.safetensors").unlink(), "has no weights"),
        (lambda clip: (clip / "config.json").write_text('{"model_type": "clip_text_model"}'), "no transformer of pictures"),
        (lambda clip: (clip / "config.json").write_text('{"model_type": "bert"}'), "config.json"),
    ],
)
def test_models_that_cannot_see(place, vid, change, said):
    change(place / "clip")
    code, _, err = vid(*LINE)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) <= 2
