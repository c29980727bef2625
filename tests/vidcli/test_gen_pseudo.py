"""`vid gen-pseudo` as a user calls it."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from tasks.core.data.synthetic import encode

FRAMES = 6


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VID_WORKERS", "1")
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        rng = np.random.default_rng(number)
        frames = rng.integers(0, 255, (1, 5, 8, 3), np.uint8).repeat(FRAMES, 0).repeat(8, 1).repeat(8, 2)
        (folder / f"v{number}.mp4").write_bytes(encode(frames, 10))
    return folder


CALL = ["gen-pseudo", "videos", "--out", "out", "--spatial", "telea", "--masks", "random", "--temporal", "none"]


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def test_one_object_per_video_and_a_second_call_finds_them(videos, vid):
    code, out, err = vid(*CALL, "--json")
    assert code == 0
    answer = records(out)
    assert [(r["name"], r["frames"], r["spatial"], r["masks_used"]) for r in answer] == [
        (f"v{i}", FRAMES, "telea", {"random": FRAMES}) for i in range(3)
    ]
    assert "3 of 3 videos" in err
    code, out, err = vid(*CALL, "--json")
    assert [r["skipped"] for r in records(out)] == [True] * 3
    assert "3 were done before" in err


def test_a_table_for_people(videos, vid):
    code, out, _ = vid(*CALL, "-q")
    assert code == 0
    assert out.splitlines()[0].split() == ["video", "frames", "spatial", "masks", "area", "temporal"]
    assert out.splitlines()[1].split()[:5] == ["videos/v0.mp4", str(FRAMES), "telea", "random", str(FRAMES)]


def test_exit_codes_and_strict(videos, vid):
    (videos / "v1.mp4").write_text("no video")
    code, out, err = vid(*CALL, "--json", "-q")
    assert (code, [("error" in r) for r in records(out)]) == (4, [False, True, False])
    assert "v1.mp4" in err
    assert vid("gen-pseudo", "gone.mp4", *CALL[2:], "-q")[0] == 3
    assert vid("gen-pseudo", "videos/v1.mp4", "--out", "other", *CALL[4:], "--strict", "-q")[0] == 3


def test_a_slurm_array_makes_everything_once_and_says_so(videos, vid, monkeypatch):
    made = []
    for number in (0, 1):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
        code, out, err = vid(*CALL, "--json")
        assert code == 0
        assert f"shard {number + 1}/2 (SLURM array)" in err
        made += [r["name"] for r in records(out)]
    assert sorted(made) == ["v0", "v1", "v2"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert len(records(vid(*CALL, "--shard", "1/1", "--json", "-q")[1])) == 3


def test_dry_run_makes_nothing(videos, vid):
    code, out, _ = vid(*CALL, "--dry-run", "--json")
    assert code == 0
    assert [(r["name"], r["done"]) for r in records(out)] == [("v0", False), ("v1", False), ("v2", False)]
    assert not (videos.parent / "out").exists()
    vid(*CALL, "-q")
    assert all(r["done"] for r in records(vid(*CALL, "--dry-run", "--json")[1]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spatial", "tela"], "did you mean 'telea'"),
        (["--masks", "segmentaton"], "did you mean 'segmentation'"),
        (["--masks", "boxes"], "boxes:FILE"),
        (["--masks", "random:x.csv"], "boxes:FILE"),
        (["--shard", "3/2"], "K/N"),
        (["--spatial", "ldm"], "--model"),
        (["--spatial", "ldm", "--dry-run"], "--model"),
        (["--spatial", "ldm", "--model", "nowhere"], "nowhere"),
        (["--model", "somewhere"], "spatial: ldm"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--device", "gpu"], "cannot use device"),
    ],
)
def test_usage_errors(videos, vid, arguments, words):
    code, out, err = vid(*CALL, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert not (videos.parent / "out").exists()


def test_an_unreadable_box_file(videos, vid):
    code, _, err = vid(*CALL, "--masks", "boxes:none.csv")
    assert code == 3
    assert "none.csv" in err


def test_other_settings_are_refused(videos, vid):
    vid(*CALL, "-q")
    code, _, err = vid(*CALL, "--seed", "4")
    assert code == 2
    assert "seed: 0 -> 4" in err


def test_a_signal_stops_it_and_the_same_command_goes_on(videos, vid, tmp_path, many):
    command = [sys.executable, "-m", "vidcli", "gen-pseudo", "videos/v0.mp4", many(videos / "v1.mp4"), *CALL[2:], "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert json.loads(process.stdout.readline())["name"] == "v0"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in err
    code, out, _ = vid("gen-pseudo", "videos/v0.mp4", "videos/v2.mp4", *CALL[2:], "--json", "-q")
    assert code == 0
    assert [r.get("skipped", False) for r in records(out)] == [True, False]
