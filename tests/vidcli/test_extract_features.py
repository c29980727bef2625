"""`vid extract-features` as a user calls it, on a tiny encoder."""

import json

import numpy as np
import pytest
import torch
from masked_helpers import MODEL
from painted import write_video
from pinned import same_everywhere
from tiny_classifier import far_from_start, tiny_classifier

from tasks.core.checkpoint import save_model
from tasks.core.clips.prepare import read_views
from tasks.core.convert_transformers import video_preprocessing
from tasks.core.nn.config import VitConfig
from tasks.masked.config import DecoderConfig
from tasks.masked.features import load
from tasks.masked.model import MaskedAutoencoder

VIT = VitConfig(**MODEL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the model `ours`, of masked pretraining, and two videos of 24 and 40 frames, 30 a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    autoencoder = far_from_start(MaskedAutoencoder(VIT, DecoderConfig(dim=16, depth=1, heads=1)))
    saved = {
        "task": "masked",
        "method": "videomae",
        "architecture": VIT.model_dump(),
        "decoder": {"dim": 16, "depth": 1, "heads": 1},
        "preprocessing": video_preprocessing(VIT, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], 2),
        "target": {"kind": "pixels"},
        "mask_ratio": 0.75,
    }
    save_model(tmp_path / "ours", autoencoder.state_dict(), saved, "")
    (tmp_path / "videos").mkdir()
    for name, frames in (("a", 24), ("b", 40)):
        write_video(tmp_path / "videos" / f"{name}.mp4", frames)
    return tmp_path


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def arrays(place, name="b"):
    with np.load(place / "found" / f"{name}.features.npz", allow_pickle=False) as file:
        return dict(file)


def test_a_video_gets_the_mean_over_its_views(place, vid):
    code, out, _ = vid("extract-features", "videos", "--model", "ours", "--out", "found", "--clips", "3", "--crops", "3", "--json")
    assert code == 0
    assert [(r["video"], r["n"], r["dim"], r["n_frames"]) for r in records(out)] == [
        ("videos/a.mp4", 1, 32, 24),
        ("videos/b.mp4", 1, 32, 40),
    ]
    expected = load("ours").features("videos/b.mp4", clips=3, crops=3).numpy()
    np.testing.assert_allclose(arrays(place)["features"], expected, atol=1e-5)
    assert np.abs(arrays(place)["features"] - arrays(place, "a")["features"]).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_have_times_and_the_features_of_their_frames(place, vid, batch_size):
    """Windows of 4 frames, 2 apart, a fifth of a second from one to the next; the last ends with the video."""
    line = ("extract-features", "videos/b.mp4", "--model", "ours", "--out", "found", "--per", "window", "--hop", "0.2")
    assert vid(*line, "--batch-size", batch_size)[0] == 0
    found = arrays(place)
    starts = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.1])
    np.testing.assert_allclose(found["t"], np.stack([starts, starts + 0.2], 1), atol=1e-6)
    assert found["features"].shape == (len(starts), 32)
    (place / "part.csv").write_text("path,start,end\nvideos/b.mp4,0.4,0.66\n")
    assert vid("extract-features", "part.csv", "--model", "ours", "--out", "found", "--per", "window")[0] == 0
    part = arrays(place, "b-0.4-0.66")
    np.testing.assert_allclose(part["t"][0], [0.4, 0.6], atol=1e-6)
    np.testing.assert_allclose(part["features"][0], found["features"][2], atol=1e-5)


def test_a_classifier_gives_features_too(place, vid):
    classifier, saved = tiny_classifier(VIT)
    save_model(place / "theirs", far_from_start(classifier).state_dict(), saved, "")
    assert vid("extract-features", "videos/a.mp4", "--model", "theirs", "--out", "found", "--clips", "1")[0] == 0
    views = read_views("videos/a.mp4", saved["preprocessing"])
    with torch.no_grad():
        expected = classifier.encoder(views).mean(1)[0].numpy()
    np.testing.assert_allclose(arrays(place, "a")["features"], expected, atol=1e-5)


def test_what_is_there_is_done_again_only_with_other_settings_or_another_model(place, vid):
    line = ("extract-features", "videos", "--model", "ours", "--out", "found", "--json")
    first = records(vid(*line)[1])
    assert [r.get("skipped") for r in first + records(vid(*line)[1])] == [None, None, True, True]
    assert [r.get("skipped") for r in records(vid(*line, "--clips", "2")[1])] == [None, None]
    changed, saved = load("ours"), json.loads((place / "ours" / "config.json").read_text())
    autoencoder = same_everywhere(MaskedAutoencoder(VIT, DecoderConfig(**saved["decoder"])), vectors=0.1)
    save_model(place / "ours", autoencoder.state_dict(), saved, "")
    assert [r.get("skipped") for r in records(vid(*line, "--clips", "2")[1])] == [None, None]
    assert not np.allclose(arrays(place)["features"], changed.features("videos/b.mp4", 2, 1).numpy(), atol=1e-3)


def test_a_share_and_a_broken_video(place, vid):
    (place / "videos" / "broken.mp4").write_bytes(b"nothing")
    line = ("extract-features", "videos", "--model", "ours", "--out", "found")
    code, out, _ = vid(*line, "--json")
    assert (code, [("error" in r) for r in records(out)]) == (4, [False, False, True])
    shares = [records(vid(*line, "--overwrite", "--json", "--shard", f"{k}/2")[1]) for k in (1, 2)]
    assert sorted(r["video"] for share in shares for r in share) == ["videos/a.mp4", "videos/b.mp4", "videos/broken.mp4"]
    assert vid("extract-features", "videos/broken.mp4", "--model", "ours", "--out", "found")[0] == 3


def test_wrong_input(place, vid):
    save_model(place / "other", {"x": torch.zeros(1)}, {"task": "boundaries", "architecture": {}}, "")
    for settings, told in (
        ((), "model"),
        (("--model", "nowhere"), "the folder does not exist"),
        (("--model", "other"), "other is a model of task 'boundaries'"),
        (("--model", "ours", "--per", "frame"), "per"),
        (("--model", "ours", "--hop", "1"), "add --per window"),
        (("--model", "ours", "--device", "tpu9"), "cannot use device 'tpu9'"),
    ):
        code, out, err = vid("extract-features", "videos", "--out", "found", *settings)
        assert (code, out) == (2, "")
        assert told in err
        assert len(err.splitlines()) <= 2
