import json
import shutil

import numpy as np
import pytest
from painted import paint, write_video
from sounds import write_sound

from tasks.core.data.manifest import Row
from tasks.core.video.check import check_rows, summary
from tasks.core.video.examine import content_hash


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Results by file name, and their summary."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("set")
    good = write_video(folder / "good.mp4", n=30, gop_size=10)
    write_video(folder / "variable.mp4", n=30, ticks=[33 * i + (i > 10) * 200 for i in range(30)])
    write_video(folder / "b.avi", n=30, codec="mpeg4", max_b_frames=2, gop_size=12, bit_rate=800_000)
    shutil.copy(good, folder / "copy.mp4")
    whole = write_video(folder / "whole.mkv", n=60, gop_size=10).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "frames").mkdir()
    for number in range(3):
        Image.fromarray(paint(number)).save(folder / "frames" / f"{number}.png")
    names = ["good.mp4", "variable.mp4", "b.avi", "copy.mp4", "cut.mkv", "empty.mp4", "gone.mp4", "frames"]
    rows = [Row(str(folder / name), "a") for name in names] + [Row(str(good), "rare", start_s=90.0), Row(str(good))]
    results = list(check_rows(rows, workers=2))
    assert [result.row for result in results] == list(range(len(rows)))
    return dict(zip([*names, "late", "unlabelled"], results, strict=True)), summary(results)


def test_facts(found):
    results, _ = found
    good = results["good.mp4"]
    assert (good.ok, good.problems, good.n_frames, good.header_frames) == (True, [], 30, 30)
    assert (good.codec, good.container, good.b_frames, good.vfr, good.height, good.width) == ("h264", "mov", True, False, 64, 96)
    assert good.duration_s == pytest.approx(1.0, abs=0.01)
    assert good.seek["pyav"] == {"wrong": 0, "queries": 16}
    assert results["variable.mp4"].vfr
    assert results["frames"].ok
    assert (results["frames"].n_frames, results["frames"].container) == (3, "frames")
    assert json.loads(json.dumps(good.as_dict()))["n_frames"] == 30


def test_sound(tmp_path, found):
    results, totals = found
    assert results["good.mp4"].sound is None
    assert totals["with_sound"] == 0
    late = write_sound(tmp_path / "late.mp4", "aac", 44_100, 1.0, start_s=0.5, layout="stereo", wave=lambda t: np.zeros((2, len(t))))
    (result,) = check_rows([Row(str(late))], workers=1, seek=False)
    assert result.sound == {"codec": "aac", "rate": 44_100, "channels": 2, "offset_s": pytest.approx(0.5 - 1024 / 44_100, abs=1.1e-3)}
    assert summary([result])["with_sound"] == 1


def test_problems(found):
    results, _ = found
    assert results["copy.mp4"].problems == [f"same content as {results['good.mp4'].path}"]
    assert results["cut.mkv"].ok
    assert 0 < results["cut.mkv"].n_frames < 60
    assert "cut short" in results["cut.mkv"].problems[0]
    assert (results["empty.mp4"].ok, results["empty.mp4"].problems) == (False, ["empty file (0 bytes)"])
    assert (results["gone.mp4"].ok, results["gone.mp4"].problems) == (False, ["no such file"])
    assert results["late"].problems == ["its part begins at 90 s, the video is 1.00 s long", "class 'rare' has only 1 row"]
    assert results["unlabelled"].problems == ["no label"]


def test_parts(tmp_path):
    video = str(write_video(tmp_path / "a.mp4", n=30))  # 30 fps: 1.02 is within a frame of the end
    rows = [Row(video, None, start, end) for start, end in [(0.5, 1.02), (0.5, 1.5), (0.5, 0.5), (2.0, 1.5)]]
    rows.append(Row(str(tmp_path / "gone.mp4"), None, 2.0, 1.0))
    assert [result.problems for result in check_rows(rows, workers=1, seek=False)] == [
        [],
        ["its part ends at 1.5 s, the video is 1.00 s long"],
        ["its part ends at 0.5 s and begins at 0.5 s"],
        ["its part ends at 1.5 s and begins at 2 s", "its part begins at 2 s, the video is 1.00 s long"],
        ["no such file", "its part ends at 1 s and begins at 2 s"],
    ]


def test_captions(tmp_path):
    video = str(write_video(tmp_path / "a.mp4", n=10))
    for name, text in {
        "good.srt": "1\n00:00:00,000 --> 00:00:01,000\nA\n",
        "bad.srt": "1\n00:00:0x,000 --> 00:00:01,000\nA\n",
        "silent.vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\n<i></i>\n",
        "old.srt": "1\n00:00:00,000 --> 00:00:01,000\n\xe9\n",
    }.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))

    def problems(*rows):
        return [result.problems for result in check_rows(list(rows), workers=1, seek=False)]

    def subtitled(name):
        return Row(video, subtitles=str(tmp_path / name))

    assert problems(Row(video), Row(video, text="said")) == [["no text"], []]
    assert problems(Row(video), subtitled("good.srt"), Row(video, text="said")) == [["no text"], ["no text"], []]
    names = ["good.srt", "bad.srt", "gone.srt", "silent.vtt", "old.srt"]
    found = problems(*map(subtitled, names), Row(video))
    assert found[0] == []
    assert found[1][0].startswith(f"subtitles: {tmp_path}/bad.srt, line 2: '00:00:0x")
    assert found[2] == [f"subtitles: {tmp_path}/gone.srt: cannot be read (No such file or directory)"]
    assert found[3:] == [["subtitles say nothing"], ["subtitles are not in UTF-8, read as cp1252"], ["no subtitles"]]


def test_summary(found):
    _, totals = found
    assert (totals["rows"], totals["files"], totals["ok"], totals["failed"]) == (10, 8, 8, 2)
    assert (totals["vfr"], totals["duplicates"], totals["unlabelled"], totals["pyav_inexact"]) == (1, 1, 1, 0)
    assert totals["classes"] == {"a": 8, "rare": 1}
    assert totals["codecs"]["h264 in mov"] == 3


def test_decord_is_judged(found):
    pytest.importorskip("decord")
    results, _ = found
    assert results["good.mp4"].seek_ok_decord is True
    assert results["b.avi"].seek_ok_decord is False
    assert results["cut.mkv"].seek_ok_decord is None


def test_the_hash_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    (tmp_path / "c").write_bytes(b"2")
    assert content_hash(str(tmp_path / "a")) == content_hash(str(tmp_path / "b")) != content_hash(str(tmp_path / "c"))
