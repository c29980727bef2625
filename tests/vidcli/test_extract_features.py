"""`vid extract-features` as a user calls it, on a tiny encoder."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from masked_helpers import MODEL
from painted import write_video
from pinned import same_everywhere
from safetensors.torch import load_file, save_file
from tiny_classifier import far_from_start, tiny_classifier

from tasks.core.checkpoint import save_model, weights_hash
from tasks.core.clips.prepare import read_views
from tasks.core.config import build
from tasks.core.convert_transformers import video_preprocessing
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.feature_loader import make_train_loader
from tasks.core.data.features import FeatureFolder, Grid
from tasks.core.data.manifest import Row, read_sources
from tasks.core.data.streams import open_streams
from tasks.core.nn.config import DecoderConfig, VitConfig
from tasks.core.towers import load_encoder
from tasks.core.video.open import open_video
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
    expected = load_encoder("ours").features("videos/b.mp4", clips=3, crops=3).numpy()
    np.testing.assert_allclose(arrays(place)["features"], expected, atol=1e-5)
    assert np.abs(arrays(place)["features"] - arrays(place, "a")["features"]).max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3])
def test_windows_have_times_and_the_features_of_their_frames(place, vid, batch_size):
    """Windows of 4 frames, 2 apart, a fifth of a second from one to the next; the last begins before the end at 1.333 s."""
    line = ("--model", "ours", "--out", "found", "--per", "window", "--hop", "0.2")
    assert vid("extract-features", "videos/b.mp4", *line, "--batch-size", batch_size)[0] == 0
    found = arrays(place)
    starts = np.arange(7) * 0.2
    np.testing.assert_allclose(found["t"], np.stack([starts, np.minimum(starts + 0.2, 1.3)], 1), atol=1e-6)
    assert found["features"].shape == (7, 32)
    (place / "spans.csv").write_text("path,start,end\n" + "".join(f"videos/b.mp4,{s:.1f},{s + 0.266:.3f}\n" for s in starts))
    assert vid("extract-features", "spans.csv", "--model", "ours", "--out", "whole", "--clips", "1")[0] == 0
    for start, feature in zip(starts, found["features"], strict=True):
        with np.load(place / "whole" / f"b-{start:.10g}-{start + 0.266:.10g}.features.npz") as file:
            np.testing.assert_allclose(file["features"], feature, atol=1e-5)
    (place / "part.csv").write_text("path,start,end\nvideos/b.mp4,0.4,0.66\n")
    assert vid("extract-features", "part.csv", *line)[0] == 0
    part = arrays(place, "b-0.4-0.66")
    np.testing.assert_allclose(part["t"], [[0.4, 0.6], [0.6, 0.6333333]], atol=1e-6)
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
    changed, saved = load_encoder("ours"), json.loads((place / "ours" / "config.json").read_text())
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
    save_model(place / "other", {"x": torch.zeros(1)}, {"task": "anomalies", "architecture": {}}, "")
    for settings, told in (
        ((), "model"),
        (("--model", "nowhere"), "the folder does not exist"),
        (("--model", "other"), "other is a model of task 'anomalies', which has no encoder of clips"),
        (("--model", "ours", "--per", "frame"), "per"),
        (("--model", "ours", "--hop", "1"), "add --per window"),
        (("--model", "ours", "--device", "tpu9"), "cannot use device 'tpu9'"),
    ):
        code, out, err = vid("extract-features", "videos", "--out", "found", *settings)
        assert (code, out) == (2, "")
        assert told in err
        assert len(err.splitlines()) <= 2


def test_the_folder_says_when_its_features_are(place, vid):
    """Also at a variable frame rate that begins late, and in every format."""
    ticks = [1400 + 40 * i + 200 * (i > 20) for i in range(40)]
    write_video(place / "videos" / "c.mkv", 40, ticks=ticks)
    line = ("extract-features", "videos", "--model", "ours", "--per", "window", "--hop", "0.3")
    found = {}
    for format, dtype in (("npz", "float32"), ("npy", "float16"), ("h5", "float32")):
        if format == "h5":
            pytest.importorskip("h5py")
        assert vid(*line, "--out", format, "--format", format, "--dtype", dtype)[0] == 0
        folder = found[format] = FeatureFolder(place / format)
        assert (folder.names, folder.dim, folder.steps) == (["a", "b", "c"], 32, {"stride_s": 0.3, "span_s": None})
        assert (folder.encoder["reference"], folder.encoder["weights_hash"]) == ("ours", weights_hash(place / "ours"))
        assert folder.get("a").values.dtype == dtype
        np.testing.assert_allclose(folder.get("c").values, found["npz"].get("c").values, atol=1e-2)
    first = folder.get("c").times
    with open_video(str(Path("videos/c.mkv").resolve())) as reader:
        assert first[0, 0] == reader.pts[0] == pytest.approx(1.4)
        with np.load(place / "npz" / "c.features.npz") as file:
            assert (np.abs(file["t"][:-1, 0] - first[:-1, 0]) <= 0.1201).all()  # half of the longest time between frames
        assert first[-1, 0] < reader.pts[-1] + 0.04 <= first[-1, 0] + 0.3 + 1e-6
    np.testing.assert_allclose(np.diff(first[:, 0]), 0.3)


def test_two_grids_are_not_mixed_in_one_folder(place, vid):
    line = ("extract-features", "videos/a.mp4", "--model", "ours", "--out", "found", "--json")
    assert vid(*line, "--per", "window", "--hop", "0.2")[0] == 0
    for other in (("--per", "window", "--hop", "0.3"), ("--per", "video")):
        code, _, err = vid("extract-features", "videos/b.mp4", "--model", "ours", "--out", "found", *other)
        assert code == 2
        assert "found holds ours" in err
        assert "stride 0.2 s, span by frame rate" in err
        assert "choose another folder" in err
    assert vid(*line[:1], "videos/b.mp4", *line[2:], "--per", "window", "--hop", "0.2")[0] == 0
    code, out, _ = vid(*line[:1], "videos", *line[2:], "--per", "window", "--hop", "0.3", "--shard", "1/2")  # all of it is redone
    assert (code, len(records(out))) == (0, 1)
    code, out, _ = vid(*line[:1], "videos", *line[2:], "--per", "window", "--hop", "0.3")
    assert sorted(record.get("skipped", False) for record in records(out)) == [False, True]
    assert [FeatureFolder("found").get(name).grid.stride_s for name in "ab"] == [0.3, 0.3]


def test_a_stride_in_seconds_gives_all_videos_one_grid(place, vid):
    file = place / "ours" / "config.json"
    saved = json.loads(file.read_text())
    saved["preprocessing"] |= {"stride_frames": None, "stride_s": 0.05}
    file.write_text(json.dumps(saved))
    assert vid("extract-features", "videos", "--model", "ours", "--out", "found", "--per", "window")[0] == 0
    folder = FeatureFolder("found")
    assert folder.grid == Grid(0.2, 0.2, 0.0)
    assert [len(folder.get(name).values) for name in folder] == [4, 7]  # of 0.8 and 1.333 s


def test_h5_without_its_package_is_refused_before_any_video_is_read(place, vid, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, out, err = vid("extract-features", "videos/nowhere.mp4", "--model", "ours", "--out", "found", "--format", "h5")
    assert (code, out) == (2, "")
    assert "need the package h5py" in err


def test_values_beyond_float16_are_refused(place, vid):
    file = place / "ours" / "model.safetensors"
    weights = load_file(file)
    weights["encoder.norm.weight"] *= 1e6
    save_file(weights, file)
    line = ("extract-features", "videos/a.mp4", "--model", "ours", "--out", "found")
    code, _, err = vid(*line, "--dtype", "float16")
    assert code == 2
    assert "do not fit float16" in err
    assert vid(*line)[0] == 0


def train_on(folder, rows, **settings):
    """One training batch of all rows, in order."""
    data = build(FeatureConfig, {"streams": {"visual": {"folder": str(folder)}}, "workers": 0, **settings})
    return next(iter(make_train_loader(rows, data, open_streams(data), None, len(rows), shuffle=False)))


def test_what_is_written_is_what_training_reads(place, vid):
    rows = read_sources(["videos"])
    assert vid("extract-features", "videos", "--model", "ours", "--out", "found", "--per", "window", "--hop", "0.2")[0] == 0
    batch = train_on("found", rows)
    assert batch["path"] == [row.path for row in rows]
    assert batch["length"].tolist() == [4, 7]
    for name, features, times, n in zip("ab", batch["features"], batch["times"], batch["length"].tolist(), strict=True):
        np.testing.assert_array_equal(features[:n], arrays(place, name)["features"])
        np.testing.assert_allclose(times[:n, 0], 0.2 * np.arange(n), atol=1e-6)
        np.testing.assert_allclose(times[:n, 1] - times[:n, 0], 8 / 30, atol=1e-6)


@pytest.mark.real
def test_real_videos_in_several_containers(place, vid, real_data):
    """Every window that begins before the end is there, and the frames that it saw lie in it."""
    names = ("yoga.mp4", "flipping_a_pancake.mkv")
    videos = [str(real_data / "clips" / name) for name in names]
    line = ("extract-features", *videos, "--model", "ours", "--out", "found", "--per", "window", "--hop", "1", "--json")
    code, out, _ = vid(*line)
    assert code == 0
    batch = train_on("found", [Row(video) for video in videos], max_length=8)
    assert batch["length"].tolist() == [8, 8]
    for video, record in zip(videos, records(out), strict=True):
        with open_video(video) as reader, np.load(record["files"][1]) as file:
            grid = Grid(**record["grid"])
            assert grid.offset_s == reader.pts[0]
            assert (np.abs(file["t"][:, 0] - grid.times(record["n"])[:, 0]) <= np.diff(reader.pts).max()).all()
            assert record["n"] == np.ceil((reader.pts[-1] + np.median(np.diff(reader.pts)) - reader.pts[0]) / 1.0 - 1e-6)


def test_without_a_model_it_says_what_to_give(vid, tmp_path):
    code, _, err = vid("extract-features", "x.mp4", "--out", tmp_path / "f")
    assert code == 2
    assert "--model is missing" in err
    assert "--audio logmel" in err
