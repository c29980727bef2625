"""`vid gen-pseudo`'s verb: the folder, determinism, resuming, failures."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image

from tasks.core.data.inputs import gather
from tasks.core.data.manifest import read_sources
from tasks.core.errors import InputError, UsageError
from tasks.core.flow.flow import flow_of
from tasks.core.flow.flow_png import read_flow
from tasks.core.reporter import Quiet
from tasks.core.shard import Shard, parse
from tasks.core.video.open import open_video
from tasks.pseudo import generate, store
from tasks.pseudo.config import GenerateConfig

FRAMES = 10
CONFIG = GenerateConfig(spatial="telea", masks={"kind": "random"}, temporal={"kind": "none"}, device="cpu", batch_size=4)


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(generate, "_WINDOW_FRAMES", {"cpu": 4})
    for number in range(3):
        tiny_models.write_video(tmp_path / "videos" / f"v{number}.mp4", FRAMES, number)
    return tmp_path / "videos"


def make(videos, out, shard=None, reporter=None, **settings):
    config = GenerateConfig(
        **{"spatial": "telea", "masks": {"kind": "random"}, "temporal": {"kind": "none"}, "device": "cpu", "batch_size": 4, **settings}
    )
    return list(generate.run(config, gather([str(videos)]), shard or Shard(), Path(out), 0, reporter or Quiet()))


def pictures(folder, kind="frames", name="v0"):
    files = sorted((Path(folder) / kind / name).iterdir())
    assert [file.name for file in files] == [f"{i:06d}.png" for i in range(len(files))]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def rows(folder, file="manifest.csv"):
    with open(Path(folder) / file, newline="") as lines:
        return list(csv.DictReader(lines))


def tree(folder):
    """Everything that was made, by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*.*")) if p.suffix in (".png", ".csv")}


def test_the_folder_says_what_was_done_to_each_frame(videos, tmp_path):
    records = make(videos, tmp_path / "out", temporal={"kind": "flow-mixup", "segment_frames": 4})
    assert [record["frames"] for record in records] == [FRAMES] * 3
    out = tmp_path / "out"
    told = rows(out)
    assert len(told) == 3 * FRAMES
    source = open_video(videos / "v1.mp4").get(range(FRAMES))
    frames, masks = pictures(out, name="v1"), pictures(out, "masks", "v1")
    mine = [row for row in told if row["source"] == str(videos / "v1.mp4")]
    flow = flow_of(source).numpy()
    for t, row in enumerate(mine):
        assert (row["path"], int(row["frame"])) == (f"frames/v1/{t:06d}.png", t)
        assert float(row["t"]) == pytest.approx(t / 10, abs=1e-5)
        assert set(np.unique(masks[t])) == {0, 255}
        hole = masks[t] == 255
        np.testing.assert_array_equal(frames[t][~hole], source[t][~hole])
        assert (frames[t][hole] != source[t][hole]).any()
        assert float(row["mask_area"]) == pytest.approx(hole.mean(), abs=1e-6)
        x1, y1, x2, y2 = map(int, row["box"].split())
        ys, xs = np.nonzero(hole)
        assert (x1, y1, x2, y2) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        own, mixed = (read_flow(out / kind / "v1" / f"{t:06d}.png") for kind in ("flow", "flow_pseudo"))
        np.testing.assert_allclose(own, flow[min(t, FRAMES - 2)], atol=1 / 100)
        u1, w1, u2, w2 = map(int, row["box_r"].split())
        expected = own.copy()
        weight = float(row["lambda"])
        expected[:, y1:y2, x1:x2] = weight * own[:, y1:y2, x1:x2] + (1 - weight) * own[:, w1:w2, u1:u2]
        np.testing.assert_allclose(mixed, expected, atol=0.03)
    assert len({row["lambda"] for row in mine}) == 3  # segments of 4, 4 and 2
    assert {(row["spatial"], row["masks"], row["mask_kind"], row["model"]) for row in told} == {("telea", "random", "random", "")}
    listed = read_sources([str(out / "videos.csv")])
    assert [row.path for row in listed] == [str(out / "frames" / f"v{i}") for i in range(3)]
    assert open_video(listed[0].path).n_frames == FRAMES
    described = json.loads((out / "pseudo.json").read_text())
    assert described["finished"] == ["v0", "v1", "v2"]
    assert described["settings"]["spatial"] == "telea"


def test_every_share_and_every_batch_makes_the_same_pictures(videos, tmp_path):
    make(videos, tmp_path / "whole", spatial="patch")
    for k in (1, 2):
        make(videos, tmp_path / "parts", parse(f"{k}/2"), spatial="patch", batch_size=k)
    whole, parts = tree(tmp_path / "whole"), tree(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert whole == parts
    make(videos, tmp_path / "other", spatial="patch", seed=1)
    other = tree(tmp_path / "other")
    assert all(other[name] != data for name, data in whole.items() if name.startswith("frames"))


@pytest.mark.slow
def test_processes_make_the_same_as_one(videos, tmp_path):
    make(videos, tmp_path / "here", temporal={"kind": "flow-mixup"})
    config = GenerateConfig(spatial="telea", masks={"kind": "random"}, device="cpu")
    made = list(generate.run(config, gather([str(videos)]), Shard(), tmp_path / "there", 2, Quiet()))
    assert len(made) == 3
    assert tree(tmp_path / "here") == tree(tmp_path / "there")


def test_diffusion_fills_and_is_named_in_every_output(videos, tmp_path):
    model = tiny_models.folder_of(tmp_path / "model")
    settings = {"spatial": "ldm", "model": str(model), "steps": 2, "size": 32}
    (record, *_) = make(videos, tmp_path / "out", **settings)
    assert (record["spatial"], record["model"]) == ("ldm", str(model))
    assert {(row["spatial"], row["model"]) for row in rows(tmp_path / "out")} == {("ldm", str(model))}
    assert json.loads((tmp_path / "out" / "pseudo.json").read_text())["model"]["kind"].startswith("latent diffusion")
    source, frames, masks = (
        open_video(videos / "v0.mp4").get(range(FRAMES)),
        pictures(tmp_path / "out"),
        pictures(tmp_path / "out", "masks"),
    )
    np.testing.assert_array_equal(frames[masks == 0], source[masks == 0])
    make(videos, tmp_path / "again", parse("1/1"), **settings)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_it_goes_on_where_it_was_stopped_and_repairs_what_was_torn(videos, tmp_path, monkeypatch):
    make(videos, tmp_path / "whole")
    out = tmp_path / "out"
    make(videos, out)
    # v1 was killed half way: pictures under a temporary name, and a final folder without its record
    (out / ".done" / "v1.json").unlink()
    (out / "frames" / ".v1.partial").mkdir()
    (out / "frames" / "v1" / "000003.png").unlink()
    kept = (out / "frames" / "v0" / "000000.png").stat().st_mtime_ns
    records = make(videos, out)
    assert [record.get("skipped", False) for record in records] == [True, False, True]
    assert (out / "frames" / "v0" / "000000.png").stat().st_mtime_ns == kept
    assert tree(out) == tree(tmp_path / "whole")
    assert not (out / "frames" / ".v1.partial").exists()


def test_another_video_of_the_same_name_is_not_taken_for_the_one_that_was_made(videos, tmp_path):
    other = tmp_path / "cam2"
    tiny_models.write_video(other / "v0.mp4", FRAMES, 7)
    make(videos / "v0.mp4", tmp_path / "out")
    made = tree(tmp_path / "out")
    (record,) = make(other, tmp_path / "out")
    assert "made from another video" in record["error"]
    assert str(videos / "v0.mp4") in record["error"]
    assert tree(tmp_path / "out") == made
    with pytest.raises(InputError, match="another video"):
        generate.plan(CONFIG, gather([str(other)]), Shard(), tmp_path / "out")
    (tmp_path / "link").symlink_to(videos)
    assert make(tmp_path / "link" / "v0.mp4", tmp_path / "out")[0]["skipped"]


def test_a_folder_of_videos_may_be_moved(videos, tmp_path):
    make(videos, tmp_path / "out")
    videos.rename(tmp_path / "archive")
    assert all(record["skipped"] for record in make(tmp_path / "archive", tmp_path / "out"))


def test_a_changed_video_is_made_again(videos, tmp_path):
    out = tmp_path / "out"
    make(videos, out)
    tiny_models.write_video(videos / "v1.mp4", FRAMES - 3, 8)
    later = (out / ".done" / "v1.json").stat().st_mtime + 5
    os.utime(videos / "v1.mp4", (later, later))
    assert [row["done"] for row in generate.plan(CONFIG, gather([str(videos)]), Shard(), out)] == [True, False, True]
    records = make(videos, out)
    assert [(record.get("skipped", False), record["frames"]) for record in records] == [(True, FRAMES), (False, FRAMES - 3), (True, FRAMES)]
    assert len(pictures(out, name="v1")) == FRAMES - 3


def test_a_video_that_cannot_be_made_again_is_not_listed(videos, tmp_path):
    out = tmp_path / "out"
    make(videos, out)
    (videos / "v1.mp4").write_bytes((videos / "v1.mp4").read_bytes()[:600])
    later = (out / ".done" / "v1.json").stat().st_mtime + 5
    os.utime(videos / "v1.mp4", (later, later))
    assert "error" in make(videos, out)[1]
    for row in rows(out, "videos.csv"):
        assert len(pictures(out, name=Path(row["path"]).name)) == FRAMES


def test_a_video_is_there_whole_or_not_at_all(videos, tmp_path, monkeypatch):
    real, calls = store.write_picture, []

    def full(path, picture):
        calls.append(path)
        if len(calls) > 7:
            raise OSError(28, "No space left on device", str(path))
        real(path, picture)

    monkeypatch.setattr(store, "write_picture", full)
    with pytest.raises(OSError, match="No space"):
        make(videos, tmp_path / "out")
    assert list((tmp_path / "out" / "frames").iterdir()) == []
    assert rows(tmp_path / "out") == []
    monkeypatch.setattr(store, "write_picture", real)
    make(videos, tmp_path / "out")
    make(videos, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_other_settings_need_another_folder(videos, tmp_path):
    make(videos, tmp_path / "out")
    make(videos, tmp_path / "out", batch_size=2)
    with pytest.raises(UsageError, match="seed: 0 -> 3"):
        make(videos, tmp_path / "out", seed=3)
    with pytest.raises(UsageError, match="not empty"):
        make(videos, videos)
    busy = store.Store(tmp_path / "out", generate.settings_of(GenerateConfig(spatial="telea", masks={"kind": "random"})), {}, Shard())
    busy.settings["temporal"]["kind"] = "none"
    busy.open()
    with pytest.raises(UsageError, match="another process"):
        make(videos, tmp_path / "out")
    busy.close()


def test_a_video_that_cannot_be_read_costs_itself_only(videos, tmp_path):
    (videos / "v3.mp4").write_text("no video")
    records = make(videos, tmp_path / "out", spatial="patch")
    assert [("error" in record) for record in records] == [False, False, False, True]
    assert [row["path"] for row in rows(tmp_path / "out", "videos.csv")] == [f"frames/v{i}" for i in range(3)]
    assert sorted(p.name for p in (tmp_path / "out" / "frames").iterdir()) == ["v0", "v1", "v2"]


def test_boxes_of_a_file_and_random_masks_where_it_has_none(videos, tmp_path):
    (tmp_path / "boxes.csv").write_text("video,frame,x1_px,y1_px,x2_px,y2_px\nvideos/v0.mp4,2,8,16,24,32\nvideos/v0.mp4,5,0,0,9,9\n")
    make(videos, tmp_path / "out", masks={"kind": "boxes", "file": str(tmp_path / "boxes.csv")}, short_side=24)
    told = [row for row in rows(tmp_path / "out") if row["source"].endswith("v0.mp4")]
    assert [row["mask_kind"] for row in told] == ["boxes" if t in (2, 5) else "random" for t in range(FRAMES)]
    assert told[2]["box"] == "4 8 12 16"
    assert pictures(tmp_path / "out").shape == (FRAMES, 24, 32, 3)


def test_motion_masks_lie_on_what_moves(videos, tmp_path):
    make(videos, tmp_path / "out", masks={"kind": "motion"})
    told = [row for row in rows(tmp_path / "out") if row["source"].endswith("v0.mp4")]
    moved = [t for t, row in enumerate(told) if row["mask_kind"] == "motion"]
    assert len(moved) >= 7
    for t in moved:
        x1, y1, x2, y2 = map(int, told[t]["box"].split())
        left = 4 + 2 * t
        assert x1 < left + 16
        assert x2 > left - 4
        assert y1 < 32
        assert y2 > 16
        assert (x2 - x1) * (y2 - y1) < 48 * 64 * 0.4


def test_flow_alone_and_parts_of_a_video(videos, tmp_path):
    (tmp_path / "list.csv").write_text("path,start,end\nvideos/v0.mp4,0.3,0.8\n")
    (record,) = make(tmp_path / "list.csv", tmp_path / "out", spatial="none", temporal={"kind": "flow-mixup"})
    told = rows(tmp_path / "out")
    assert [int(row["frame"]) for row in told] == [3, 4, 5, 6, 7]
    assert {row["path"] for row in told} == {""}
    assert not (tmp_path / "out" / "frames").exists()
    assert len(list((tmp_path / "out" / "flow_pseudo" / record["name"]).iterdir())) == 5
    assert rows(tmp_path / "out", "videos.csv")[0]["path"] == str(videos / "v0.mp4")
    flow = flow_of(open_video(videos / "v0.mp4").get(range(3, 8))).numpy()
    np.testing.assert_allclose(read_flow(tmp_path / "out" / "flow" / record["name"] / "000001.png"), flow[1], atol=1 / 100)


def test_a_single_frame_has_no_flow(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one").mkdir()
    Image.fromarray(tiny_models.frames(1)[0]).save(tmp_path / "one" / "0.png")
    make(tmp_path / "one", tmp_path / "out", temporal={"kind": "flow-mixup"})
    assert (read_flow(tmp_path / "out" / "flow" / "one" / "000000.png") == 0).all()


@pytest.mark.real
def test_ped2_with_its_boxes(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    (tmp_path / "few.csv").write_text(f"path,start,end\n{real_data / 'ped2/train/01.mp4'},0,1.2\n")
    (record,) = make(tmp_path / "few.csv", tmp_path / "out", masks={"kind": "boxes", "file": str(real_data / "ped2" / "boxes.csv")})
    assert record["masks_used"] == {"boxes": 12}
    assert 0.002 < record["mask_area"] < 0.02
