"""`vid motion-boxes` as a user calls it."""

import json

import av
import numpy as np
import pytest
from moving_square import clip, iou
from painted import write_video
from PIL import Image

from tasks.core.data.boxes import BoxFile


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Folders of pictures: a square that moves, a still scene, a single picture; and a file that is no video."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tasks.core.video.children.default_workers", lambda given: 0)
    moving, truth = clip([(40, 35, 44, (3, 1))], "still", frames=6)
    for name, pictures in (("moving", moving), ("calm", moving[[0] * 4]), ("single", moving[:1])):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / name / f"{number:02d}.png")
    (tmp_path / "text.mp4").write_text("no video")
    return truth[:, 0]


LINE = ("motion-boxes", "moving", "calm", "single", "--flow", "dis", "-o", "boxes.csv")


def test_boxes_of_videos_in_one_file_and_again_without_work(place, vid, tmp_path):
    code, out, err = vid(*LINE, "text.mp4", "missing.mp4", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert "text.mp4: not a readable video" in err
    assert "missing.mp4: " in err
    assert [(r["video"], r.get("moving_frames")) for r in records[:3]] == [("moving", 6), ("calm", 0), ("single", 0)]
    assert "boxes.csv: boxes of 3 videos" in err
    boxes = BoxFile("boxes.csv")
    found = boxes.of(str(tmp_path / "moving"), size=(120, 160))
    assert list(found) == list(range(6))
    assert iou(np.concatenate(list(found.values())), place).mean() > 0.5
    assert boxes.of(str(tmp_path / "single"))[0].tolist() == [[40, 30, 120, 90]]
    before = (tmp_path / "boxes.csv").read_bytes()
    code, out, err = vid(*LINE, "--json")
    assert (code, [json.loads(line)["skipped"] for line in out.splitlines()]) == (0, [True] * 3)
    assert (tmp_path / "boxes.csv").read_bytes() == before
    code, out, _ = vid(*LINE, "--mode", "code", "--json")
    assert (code, [json.loads(line).get("skipped", False) for line in out.splitlines()]) == (0, [False] * 3)


def test_shards_fill_one_file(place, vid, tmp_path):
    for part in ("1/2", "2/2"):
        assert vid(*LINE, "--shard", part)[0] == 0
    assert [len(BoxFile("boxes.csv").of(str(tmp_path / name))) for name in ("moving", "calm", "single")] == [6, 4, 1]


def test_files_of_each_video_and_the_box_in_the_picture(place, vid, tmp_path):
    code, out, _ = vid("motion-boxes", "moving", "--flow", "dis", "-o", "found", "--write", "csv,mp4", "--json")
    record = json.loads(out)
    assert (code, sorted(path.name for path in (tmp_path / "found").iterdir())) == (
        0,
        ["moving.boxes.csv", "moving.boxes.json", "moving.boxes.mp4"],
    )
    assert len(BoxFile("found/moving.boxes.csv").of(str(tmp_path / "moving"))) == 6
    with av.open("found/moving.boxes.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    x1, y1, x2, _ = (2 * np.array(record["boxes"][3])).round().astype(int)  # 120 px high pictures are shown at 240
    drawn, within = (frames[3][rows, x1 + 6 : x2 - 6].astype(int).mean((0, 1)) for rows in (slice(y1 - 1, y1 + 3), slice(y1 + 8, y1 + 24)))
    assert drawn[0] - drawn[2] > within[0] - within[2] + 40  # orange


def test_part_of_a_video_keeps_its_frame_numbers(place, vid, tmp_path):
    write_video(tmp_path / "a.mp4", 9)
    (tmp_path / "list.csv").write_text("path,start,end\na.mp4,0.1,0.2\n")
    code, out, _ = vid("motion-boxes", "list.csv", "--flow", "dis", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["first_frame"] > 0
    assert len(record["boxes"]) < record["n_frames"] == 9


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--flow", "farneback"], "'farneback' is not one of"),
        (["--mode", "papr"], "'papr' is not one of"),
        (["--short-side", "4"], "short_side: got 4 (from --short-side)"),
        (["--write", "mp4"], "--write needs a folder"),
        (["-o", "found", "--write", "cvs"], "cannot write 'cvs'"),
    ],
)
def test_wrong_input_is_told_in_a_line(place, vid, flags, told):
    code, out, err = vid("motion-boxes", "moving", *flags)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) <= 2
