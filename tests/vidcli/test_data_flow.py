"""`vid data flow` as a user calls it."""

import json

import numpy as np
import pytest
from painted import write_video

from tasks.core.flow.folder import FlowFolder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two videos of 6 and 9 frames of 96 x 64 px and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VID_WORKERS", "1")
    (tmp_path / "videos").mkdir()
    for name, frames in (("a", 6), ("b", 9)):
        write_video(tmp_path / "videos" / f"{name}.mp4", frames)
    (tmp_path / "videos" / "text.mp4").write_text("no video")
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """No processes of their own for videos, which take seconds to start."""
    monkeypatch.setattr("tasks.core.video.children.default_workers", lambda given: 0)


def test_flow_is_computed_once_and_again_where_a_video_has_changed(place, vid, request):
    line = ("data", "flow", "videos", "-o", "flow", "--method", "dis", "--short-side", "32", "--json")
    code, out, err = vid(*line)
    records = [json.loads(text) for text in out.splitlines()]
    assert code == 4
    assert [(r["video"], r.get("n_flows"), r.get("width")) for r in records] == [
        ("videos/a.mp4", 5, 48),
        ("videos/b.mp4", 8, 48),
        ("videos/text.mp4", None, None),
    ]
    assert "text.mp4: not a readable video" in err
    found = FlowFolder("flow").pictures("videos/b.mp4", 9, np.arange(9))
    assert found.shape == (9, 32, 48, 3)
    (place / "videos" / "text.mp4").unlink()
    write_video(place / "videos" / "a.mp4", 7)
    request.getfixturevalue("in_process")
    code, out, err = vid(*line)
    assert (code, [json.loads(text).get("skipped", False) for text in out.splitlines()]) == (0, [False, True])
    assert "1 were done before" in err


def test_each_shard_does_its_part(place, vid, in_process):
    for part in ("1/2", "2/2"):
        code, out, err = vid("data", "flow", "videos/a.mp4", "videos/b.mp4", "-o", "flow", "--method", "dis", "--shard", part, "--json")
        assert (code, len(out.splitlines())) == (0, 1)
        assert f"shard {part} (--shard): 1 of 2 videos" in err
    assert len(list((place / "flow").rglob("*.flow.zip"))) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--method", "farneback"], "'farneback' is not one of"),
        (["--method", "dis", "--short-side", "4"], "short_side: got 4 (from --short-side), expected a number greater than or equal to 16"),
        (["--bound", "0"], "bound_px: got 0.0 (from --bound)"),
        (["--device", "tpu"], "cannot use device 'tpu'"),
        (["--shard", "3/2"], "not a share of a whole"),
        (["-o", "videos", "--method", "dis"], "is not empty and holds no optical flow"),
    ],
)
def test_wrong_input_is_told_in_a_line(place, vid, flags, told):
    code, out, err = vid("data", "flow", "videos", *(flags if "-o" in flags else ["-o", "flow", *flags]))
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) <= 2
    assert not (place / "flow").exists()


def test_a_short_side_of_zero_leaves_frames_as_they_are(place, vid, in_process):
    code, out, _ = vid("data", "flow", "videos/a.mp4", "-o", "flow", "--method", "dis", "--short-side", "0", "--gap", "2", "--json")
    record = json.loads(out)
    assert (code, record["n_flows"], record["height"], record["short_side"], record["gap_frames"]) == (0, 4, 64, None, 2)
