"""`vid extract-features --audio` as a user calls it."""

import json
import math
import os

import numpy as np
import pytest
import torch
from painted import write_video
from sounds import clicks, write_sound

from tasks.core.audio.logmel import LogMel
from tasks.core.audio.read import open_sound
from tasks.core.clips.clips import ClipSampler
from tasks.core.data.features import FeatureFolder
from tasks.core.data.grid import Grid
from tasks.core.video import guard
from tasks.core.video.open import open_video


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with videos: two with sound, of 4 s and 2.5 s, the second as a broadcast that begins at 0.08 s, and one without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(guard, "_own_risk", True)
    (tmp_path / "videos").mkdir()
    write_sound(tmp_path / "videos" / "a.mp4", "aac")
    write_sound(tmp_path / "videos" / "b.ts", "aac", seconds=2.48)
    write_video(tmp_path / "videos" / "mute.mp4", 30)
    return tmp_path


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def whole(path):
    with open_sound(path) as sound:
        return sound.start_s, LogMel()(torch.as_tensor(sound.read(sound.start_s, sound.end_s + 1))).numpy()


def test_features_of_the_sound(place, vid):
    code, out, _ = vid("extract-features", "videos", "--audio", "logmel", "--out", "found", "--json")
    assert code == 4
    found = records(out)
    assert [(r["video"], r.get("n"), r.get("dim"), r.get("error")) for r in found] == [
        ("videos/a.mp4", 400, 64, None),
        ("videos/b.ts", 248, 64, None),
        ("videos/mute.mp4", None, None, "has no sound"),
    ]
    folder = FeatureFolder("found")
    assert folder.encoder["reference"] == "logmel"
    assert folder.encoder["logmel"]["n_mels"] == 64
    for name, path in (("a", "videos/a.mp4"), ("b", "videos/b.ts")):
        start_s, expected = whole(path)
        features = folder.get(name)
        assert features.grid == Grid(0.01, 0.025, start_s)
        assert features.values == pytest.approx(expected[: len(features.values)], abs=1e-5)
        loud = features.grid.centers(len(features.values))[features.values.sum(1) > features.values.sum(1).max() - 1]
        assert np.abs(loud[:, None] - start_s - np.asarray([0.5, 1.25, 2.0, 3.3])).min(1).max() < 0.0125


def test_the_grid_is_that_of_the_pictures(place, vid):
    """Windows of pictures and patches of sound with the same hop begin at the same times and are as many."""
    for hop in (0.5, 0.48, 0.32):
        assert (
            vid("extract-features", "videos/a.mp4", "videos/b.ts", "--audio", "logmel", "--hop", str(hop), "--out", f"found{hop}")[0] == 0
        )
        folder = FeatureFolder(f"found{hop}")
        for name, path in (("a", "videos/a.mp4"), ("b", "videos/b.ts")):
            with open_video(path) as video:
                grid, windows = ClipSampler(4, "dense", stride_s=0.1).on_grid(video.pts, hop)
            found = folder.get(name)
            assert (found.grid.stride_s, found.grid.offset_s) == pytest.approx((grid.stride_s, grid.offset_s))
            assert len(found.values) == len(list(windows))


def test_patches(place, vid):
    assert vid("extract-features", "videos/a.mp4", "--audio", "logmel", "--out", "rows")[0] == 0
    assert vid("extract-features", "videos/a.mp4", "--audio", "logmel", "--out", "found", "--span", "0.96", "--hop", "0.48")[0] == 0
    rows, found = (FeatureFolder(name).get("a") for name in ("rows", "found"))
    assert (found.grid.stride_s, found.grid.span_s, found.grid.offset_s) == pytest.approx((0.48, 0.975, 0.0))
    assert found.values.shape == (math.ceil(4 / 0.48), 96 * 64)
    for number, patch in enumerate(found.values[:7]):
        assert patch == pytest.approx(rows.values[48 * number : 48 * number + 96].ravel(), abs=1e-5)
    assert found.values[-1, -64:] == pytest.approx(np.full(64, np.log(0.01)), abs=1e-5)  # beyond the end there is silence


def test_settings_of_the_spectrogram(place, vid):
    settings = ["logmel.n_mels=40", "logmel.hop_s=0.02", "logmel.f_max=4000", "logmel.sample_rate=8000"]
    sets = [word for text in settings for word in ("--set", text)]
    code, out, _ = vid("extract-features", "videos/a.mp4", "--audio", "logmel", "--out", "found", "--json", "--dtype", "float16", *sets)
    assert code == 0
    (record,) = records(out)
    assert (record["n"], record["dim"], record["grid"]["stride_s"]) == (200, 40, 0.02)
    assert FeatureFolder("found").get("a").values.dtype == np.float16


def test_silence_where_there_is_no_sound(place, vid):
    code, out, _ = vid("extract-features", "videos", "--audio", "logmel", "--out", "found", "--silence", "--json")
    assert code == 0
    record = records(out)[2]
    assert (record["n"], record["has_sound"]) == (100, False)
    assert FeatureFolder("found").get("mute").values == pytest.approx(np.full((100, 64), np.log(0.01)), abs=1e-6)


def test_nothing_with_sound_is_exit_code_3(place, vid):
    assert vid("extract-features", "videos/mute.mp4", "--audio", "logmel", "--out", "found")[0] == 3
    code, _, err = vid("extract-features", "videos/mute.mp4", "--audio", "logmel", "--out", "found", "--strict")
    assert (code, "mute.mp4: has no sound" in err) == (3, True)


def test_what_is_there_is_not_done_again(place, vid, monkeypatch):
    line = ("extract-features", "videos/a.mp4", "videos/b.ts", "--audio", "logmel", "--out", "found", "--json")
    vid(*line)
    os.unlink("found/b.features.npz")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert [r.get("skipped", False) for r in records(vid(*line)[1])] == [True, False]
    assert [r.get("skipped", False) for r in records(vid(*line, "--overwrite")[1])] == [False, False]
    code, _, err = vid("extract-features", "videos/a.mp4", "--audio", "logmel", "--set", "logmel.n_mels=32", "--out", "found")
    assert (code, "holds logmel" in err) == (2, True)


def test_shares(place, vid):
    line = ("extract-features", "videos", "--audio", "logmel", "--silence", "--out", "found", "--json", "--shard")
    done = [record["video"] for k in (1, 2) for record in records(vid(*line, f"{k}/2")[1])]
    assert sorted(done) == ["videos/a.mp4", "videos/b.ts", "videos/mute.mp4"]
    assert FeatureFolder("found").names == ["a", "b", "mute"]


def test_parts_of_a_manifest_and_files_of_sound(place, vid):
    write_sound(place / "tune.wav", "pcm_s16le", 44_100, 2.0, picture=False)
    (place / "parts.csv").write_text("path,start,end\nvideos/a.mp4,1.0,1.5\nvideos/a.mp4,9,10\ntune.wav,,\n")
    code, out, _ = vid("extract-features", "parts.csv", "--audio", "logmel", "--out", "found", "--json")
    assert code == 4
    part, beyond, tune = records(out)
    assert (part["n"], part["grid"]["offset_s"]) == (50, 1.0)
    assert beyond["error"] == "nothing is there from 9 s on: it ends at 4.00 s"
    assert (tune["n"], tune["grid"]["offset_s"]) == (200, 0.0)
    _, expected = whole("videos/a.mp4")
    assert FeatureFolder("found").get("a-1-1.5").values == pytest.approx(expected[100:150], abs=1e-5)


def test_a_decoder_that_crashes_costs_one_video(place, vid, monkeypatch):
    monkeypatch.setattr(guard, "_own_risk", False)
    monkeypatch.setattr(guard, "_idle", [])
    crash = """
import os, signal
from tasks.core.audio import index
from tasks.core.video import guard
def decoded(path, *rest):
    if path.endswith("a.mp4"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(path, *rest)
real, index.decoded = index.decoded, decoded
guard.serve({fd}, {parent})
"""
    monkeypatch.setattr(guard, "_ONE_LINE", crash)
    code, out, _ = vid("extract-features", "videos/a.mp4", "videos/b.ts", "--audio", "logmel", "--out", "found", "--json")
    assert code == 4
    first, second = records(out)
    assert "its decoder crashed" in first["error"]
    assert second["n"] == 248
    for looker in guard._idle:
        looker.kill()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--audio", "mfcc"], "got 'mfcc' (from --audio), expected one of logmel"),
        (["--audio", "logmel", "--model", "x"], "--model is for features of pictures"),
        (["--audio", "logmel", "--per", "window"], "--per is for features of pictures"),
        (["--model", "x", "--span", "1"], "--span is for features of the sound"),
        (["--model", "x", "--silence"], "--silence is for features of the sound"),
        (["--audio", "logmel", "--span", "0.955"], "span_s 0.955 is not a multiple of 0.01 s"),
        (["--audio", "logmel", "--hop", "0.001"], "hop_s 0.001 is not a multiple of 0.01 s"),
        (["--audio", "logmel", "--set", "logmel.n_mel=5"], "did you mean 'logmel.n_mels'?"),
    ],
)
def test_what_does_not_go_together(place, vid, words, message):
    code, _, err = vid("extract-features", "videos", "--out", "found", *words)
    assert code == 2
    assert message in err
    assert not (place / "found").exists()


def test_clicks_are_where_they_are(place):
    assert clicks(np.asarray([0.5]))[0] == pytest.approx(0.7)


@pytest.mark.real
def test_real_videos(real_data, tmp_path, vid, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    out_folder = str(tmp_path / "found")
    videos = [str(path) for path in sorted((real_data / "av_events").glob("val00[0-2].mp4"))]
    assert len(videos) == 3
    code, out, _ = vid("extract-features", *videos, "--audio", "logmel", "--hop", "0.1", "--out", out_folder, "--json")
    assert code == 0
    marked = json.loads((real_data / "av_events" / "annotations.json").read_text())["database"]
    for record in records(out):
        name = record["files"][0].rpartition("/")[2].partition(".")[0]
        assert record["n"] * 0.1 == pytest.approx(marked[name]["duration"], abs=0.11)
        assert record["dim"] == 640
    code, out, _ = vid("extract-features", str(real_data / "clips"), "--audio", "logmel", "--out", f"{out_folder}2", "--json")
    assert code == 4
    assert sum("error" in record for record in records(out)) == 2
