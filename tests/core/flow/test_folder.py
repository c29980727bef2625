"""Folders of precomputed flow: written once, in any number of processes, found again, stale flow noticed."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sliding import write_sliding

from tasks.core.data.inputs import gather
from tasks.core.errors import UsageError
from tasks.core.flow import precompute
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.folder import FlowFolder, read_settings
from tasks.core.flow.levels import compute_pictures
from tasks.core.reporter import Quiet
from tasks.core.shard import Shard
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

SETTINGS = FlowSettings(method="dis", short_side=48)


@pytest.fixture
def videos(tmp_path):
    for number in range(3):
        write_sliding(tmp_path / "videos" / f"v{number}", [1 + number, 2, -1, 3][: 2 + number], seed=number)
    return tmp_path / "videos"


def job(out, settings=SETTINGS, **changes):
    return precompute.Job(out, settings, torch.device("cpu"), **changes)


def write(out, sources, shard=None, workers=0, **changes):
    inputs = gather([str(source) for source in sources])
    return list(precompute.run(job(out, **changes), inputs, shard or Shard(), workers, Quiet()))


def listed(videos):
    return sorted(videos.iterdir())


def test_what_is_read_is_what_was_computed(tmp_path, videos):
    records = write(tmp_path / "flow", listed(videos))
    assert [(r["n_frames"], r["n_flows"], r["height"], r["width"]) for r in records] == [(3, 2, 48, 72), (4, 3, 48, 72), (5, 4, 48, 72)]
    folder = FlowFolder(tmp_path / "flow")
    assert folder.settings == SETTINGS == read_settings(tmp_path / "flow")
    for path in listed(videos):
        with open_video(path) as reader:
            frames = np.array([reader.n_frames - 1, 0, 1, 1])
            wanted = compute_pictures(reader, frames, SETTINGS)
            found = folder.pictures(str(path), reader.n_frames, frames)
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted)
    sent = pickle.loads(pickle.dumps(folder))
    assert np.array_equal(sent.pictures(str(path), 5, frames), wanted)


def test_a_file_is_a_zip_that_tells_what_it_is(tmp_path, videos):
    (record,) = write(tmp_path / "flow", [videos / "v0"])
    with zipfile.ZipFile(record["files"][0]) as store:
        assert store.namelist() == ["000000.png", "000001.png", "video.json"]
        known = json.loads(store.read("video.json"))
    wanted = {"method": "dis", "short_side": 48, "gap_frames": 1, "bound_px": 20.0, "n_frames": 3, "n_flows": 2, "height": 48, "width": 72}
    assert wanted.items() <= known.items()
    assert len(known["fingerprint"]) == 16
    assert len(list((tmp_path / "flow").rglob("*.flow.zip"))) == 1


def test_the_second_time_only_what_is_missing_is_done(tmp_path, videos, monkeypatch):
    out, computed = tmp_path / "flow", []
    stream = precompute.stream_pictures
    monkeypatch.setattr(precompute, "stream_pictures", lambda reader, *rest: computed.append(reader.path) or stream(reader, *rest))
    write(out, [videos / "v1"])
    first = write(out, listed(videos))
    assert [path[-2:] for path in computed] == ["v1", "v0", "v2"]
    assert [record.get("skipped", False) for record in first] == [False, True, False]
    assert all(record["skipped"] for record in write(out, listed(videos)))
    assert len(computed) == 3
    assert not any(record.get("skipped") for record in write(out, [videos / "v0"], overwrite=True))
    assert len(computed) == 4


def test_nothing_is_left_of_a_video_that_was_stopped_half_way(tmp_path, videos, monkeypatch):
    def stopping(reader, settings, device):
        yield np.zeros((2, 48, 72, 3), np.uint8)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(precompute, "stream_pictures", stopping)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "flow", [videos / "v0"])
    assert list((tmp_path / "flow").rglob("*.zip")) == []
    assert "skipped" not in write(tmp_path / "flow", [videos / "v0"])[0]


def test_shards_make_the_same_folder_as_one_process(tmp_path, videos):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    write(whole, listed(videos))
    done = [record["video"] for number in (2, 1) for record in write(parts, listed(videos), Shard(number, 2, "test"))]
    assert sorted(done) == sorted(map(str, listed(videos)))
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.zip"))
    assert names == sorted(path.relative_to(parts) for path in parts.rglob("*.zip"))
    for name in names:
        with zipfile.ZipFile(whole / name) as one, zipfile.ZipFile(parts / name) as other:
            assert [one.read(member) for member in one.namelist()[:-1]] == [other.read(member) for member in other.namelist()[:-1]]


def test_parts_of_a_video_are_one_video(tmp_path, videos):
    manifest = tmp_path / "rows.csv"
    manifest.write_text("path,start,end\nvideos/v2,0,0.05\nvideos/v2,0.1,0.2\nvideos/v1,,\n")
    records = write(tmp_path / "flow", [manifest])
    assert [record["n_flows"] for record in records] == [4, 3]


def test_other_settings_do_not_go_into_the_same_folder(tmp_path, videos):
    write(tmp_path / "flow", [videos / "v0"])
    with pytest.raises(UsageError, match="short_side is 48, not 64"):
        write(tmp_path / "flow", [videos / "v0"], settings=FlowSettings(method="dis", short_side=64))
    with pytest.raises(UsageError, match="is not empty and holds no optical flow"):
        write(videos, [videos / "v0"])


def test_videos_that_cannot_be_read_are_named_and_the_others_done(tmp_path, videos):
    (videos / "text.mp4").write_text("no video")
    records = write(tmp_path / "flow", [videos / "v0", videos / "text.mp4", videos / "missing.mp4", videos / "v1"])
    assert ["error" in record for record in records] == [False, True, True, False]
    assert "not a readable video" in records[1]["error"]


def test_a_video_is_found_wherever_it_is_moved(tmp_path, videos):
    write(tmp_path / "flow", [videos / "v1"])
    shutil.copytree(videos / "v1", tmp_path / "elsewhere" / "v1")
    shutil.move(tmp_path / "flow", tmp_path / "moved")
    assert FlowFolder(tmp_path / "moved").pictures(str(tmp_path / "elsewhere" / "v1"), 4, np.arange(4)).shape == (4, 48, 72, 3)


def test_stale_missing_and_damaged_flow_are_told_apart(tmp_path, videos):
    (record,) = write(tmp_path / "flow", [videos / "v1"])
    folder, frames, path = FlowFolder(tmp_path / "flow"), np.arange(2), str(videos / "v1")
    folder.pictures(path, 4, frames)
    with pytest.raises(VideoError, match="no flow of it in"):
        folder.pictures(str(videos / "v0"), 3, frames)
    with pytest.raises(VideoError, match="is of 4 frames, and 5 can be decoded here"):
        FlowFolder(tmp_path / "flow").pictures(path, 5, frames)
    file = Path(record["files"][0])
    data = file.read_bytes()
    for damaged in (data[: len(data) // 2], data.replace(b"IDAT", b"IDAX")):
        file.write_bytes(damaged)
        with pytest.raises(VideoError, match="is damaged"):
            FlowFolder(tmp_path / "flow").pictures(path, 4, frames)
    shutil.rmtree(videos / "v1")
    write_sliding(videos / "v1", [2, 2, 2], seed=9)
    with pytest.raises(VideoError, match="is stale"):
        folder.pictures(path, 4, frames)  # although the old one was open
    write_sliding(tmp_path / "elsewhere" / "v1", [1, 1, 1], seed=4)
    with pytest.raises(VideoError, match="no flow of it in"):
        folder.pictures(str(tmp_path / "elsewhere" / "v1"), 4, frames)  # of the same name
    assert "skipped" not in write(tmp_path / "flow", [videos / "v1"])[0]
    folder.pictures(path, 4, frames)


def test_damaged_flow_is_written_again(tmp_path, videos):
    (record,) = write(tmp_path / "flow", [videos / "v0"])
    Path(record["files"][0]).write_bytes(b"half a zip")
    assert "skipped" not in write(tmp_path / "flow", [videos / "v0"])[0]
    assert FlowFolder(tmp_path / "flow").pictures(str(videos / "v0"), 3, np.arange(3)).shape == (3, 48, 72, 3)


@pytest.mark.parametrize("sidecar", [None, "{}", "[", '{"format": 2}', '{"format": 1, "settings": {"method": "dis", "speed": 3}}'])
def test_what_is_no_folder_of_flow_is_named(tmp_path, sidecar):
    if sidecar is not None:
        (tmp_path / "flow.json").write_text(sidecar)
    with pytest.raises(UsageError):
        FlowFolder(tmp_path)


def test_long_names_fit_into_a_file_system(tmp_path, videos):
    long = videos / ("ü" * 120)
    shutil.copytree(videos / "v0", long)
    (record,) = write(tmp_path / "flow", [long])
    assert "error" not in record
    assert len(FlowFolder(tmp_path / "flow").pictures(str(long), 3, np.arange(3))) == 3
