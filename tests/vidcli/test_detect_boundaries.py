"""`vid detect-boundaries` as a user calls it."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tasks.core.data.synthetic import encode

CUT, FRAMES = 20, 45


def write_video(path, seed=0):
    """Two scenes, 15 frames a second, the second from frame CUT on."""
    rng = np.random.default_rng(seed)
    scenes = [rng.integers(0, 255, (6, 8, 3), np.uint8).repeat(12, 0).repeat(12, 1) for _ in range(2)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(np.stack([scenes[i >= CUT] for i in range(FRAMES)]), 15))
    return path


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VID_WORKERS", "1")
    for number in range(2):
        write_video(tmp_path / "videos" / f"v{number}.mp4", number)
    return tmp_path / "videos"


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def test_a_folder_a_pattern_a_manifest_and_standard_input_give_the_same(videos, vid, monkeypatch):
    (videos.parent / "list.csv").write_text("path\nvideos/v0.mp4\nvideos/v1.mp4\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("videos/v0.mp4\nvideos/v1.mp4\n"))
    found = []
    for source in ("videos", "videos/*.mp4", "list.csv", "-"):
        code, out, _ = vid("detect-boundaries", source, "--json", "-q")
        assert code == 0
        found.append(records(out))
    for answer in found:
        assert [[b["frame"] for b in r["boundaries"]] for r in answer] == [[CUT], [CUT]]
        assert answer[0]["boundaries"][0]["t"] == pytest.approx(CUT / 15)
        assert [r["video"] for r in answer] == [r["video"] for r in found[0]]


def test_a_table_for_people_names_time_and_frame(videos, vid):
    code, out, err = vid("detect-boundaries", videos / "v0.mp4")
    assert code == 0
    header, line = out.splitlines()
    assert header.split() == ["video", "time", "t", "frame", "score", "kind"]
    assert line.split()[1:4] == ["0:01.333", "1.333", str(CUT)]
    assert line.split()[-1] == "cut"
    assert "1 boundaries" in err


def test_only_some_kinds(videos, vid, tmp_path):
    n = {}
    for kinds in ("cuts", "events", "cuts,dissolves"):
        (record,) = (
            json.loads(line) for line in vid("detect-boundaries", videos / "v0.mp4", "--only", kinds, "--json", "-q")[1].splitlines()
        )
        n[kinds] = len(record["boundaries"])
        assert record["settings"]["only"] == sorted(kinds.split(","))
    assert n == {"cuts": 1, "events": 0, "cuts,dissolves": 1}
    saved = tmp_path / "saved"
    assert vid("detect-boundaries", videos / "v0.mp4", "--out", saved, "--save-scores", "-q")[0] == 0
    again = vid("detect-boundaries", "--from-scores", saved, "--only", "events", "--json", "-q")[1]
    assert json.loads(again)["boundaries"] == []
    code, _, err = vid("detect-boundaries", videos / "v0.mp4", "--only", "cut")
    assert code == 2
    assert "did you mean 'cuts'?" in err


def test_some_fail_all_fail_and_strict(videos, vid):
    (videos / "text.mp4").write_text("no video")
    code, out, err = vid("detect-boundaries", videos, "gone.mp4", "--json", "-q")
    answer = records(out)
    assert (code, [("error" in r) for r in answer]) == (4, [True, False, False, True])
    assert "gone.mp4: no such file" in err
    assert vid("detect-boundaries", "gone.mp4", "-q")[0] == 3
    code, _, err = vid("detect-boundaries", videos, "--strict", "-q")
    assert (code, "without --strict" in err) == (3, True)


def test_outputs_are_made_once_and_anew_when_settings_change(videos, vid):
    call = ["detect-boundaries", "videos", "--out", "found", "--write", "json,csv,edl,html", "--save-scores", "--json", "-q"]
    code, out, _ = vid(*call)
    assert code == 0
    files = {name: (videos.parent / name).stat().st_mtime_ns for r in records(out) for name in r["files"]}
    assert len(files) == 10
    again = records(vid(*call)[1])
    assert [r["skipped"] for r in again] == [True, True]
    assert [r["boundaries"] for r in again] == [r["boundaries"] for r in records(out)]
    assert {name: (videos.parent / name).stat().st_mtime_ns for name in files} == files
    other = records(vid(*call, "--threshold", "0.9")[1])
    assert not any("skipped" in r for r in other)
    assert other[0]["settings"]["threshold"] == 0.9
    assert not any("skipped" in r for r in records(vid(*call, "--threshold", "0.9", "--overwrite")[1]))


def test_scores_are_thresholded_again_without_the_video(videos, vid):
    vid("detect-boundaries", "videos", "--out", "found", "--save-scores", "-q")
    for video in videos.iterdir():
        video.unlink()
    _, out, _ = vid("detect-boundaries", "--from-scores", "found", "--threshold", "0", "--min-gap", "0", "--json", "-q")
    assert [len(r["boundaries"]) for r in records(out)] == [FRAMES, FRAMES]
    code, out, _ = vid(
        "detect-boundaries", "--from-scores", "found/v0.boundaries.scores.csv", "--out", "new", "--write", "html,csv", "--json", "-q"
    )
    assert code == 0
    assert [b["frame"] for b in records(out)[0]["boundaries"]] == [CUT]
    assert (videos.parent / "new" / "v0.boundaries.html").exists()
    assert vid("detect-boundaries", "--from-scores", "videos", "-q")[0] == 3


def test_scores_of_the_same_name_and_outputs_that_are_there(videos, vid):
    write_video(videos.parent / "more" / "v0.mp4", 5)
    for folder in ("videos", "more"):
        vid("detect-boundaries", f"{folder}/v0.mp4", "--out", f"{folder}-found", "--save-scores", "-q")
    call = ["detect-boundaries", "--from-scores", "videos-found", "more-found", "--out", "again", "--json", "-q"]
    first = records(vid(*call)[1])
    assert len({name for r in first for name in r["files"]}) == 2
    assert [r.get("skipped") for r in records(vid(*call)[1])] == [True, True]
    assert not any(r.get("skipped") for r in records(vid(*call, "--threshold", "0.7")[1]))


def test_the_jobs_of_an_array_share_the_videos(videos, vid, monkeypatch):
    for number in range(2, 5):
        write_video(videos / f"v{number}.mp4", number)
    shares = [records(vid("detect-boundaries", "videos", "--shard", f"{k}/2", "--json", "-q")[1]) for k in (1, 2)]
    names = [{r["video"] for r in share} for share in shares]
    assert (len(names[0] | names[1]), names[0] & names[1]) == (5, set())
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    _, out, err = vid("detect-boundaries", "videos", "--json")
    assert {r["video"] for r in records(out)} == names[1]
    assert "shard 2/2 (SLURM array)" in err


def test_shares_do_not_depend_on_where_the_folder_lies(videos, vid):
    for number in range(2, 6):
        write_video(videos / f"v{number}.mp4", number)
    shares = []
    for folder in ("videos", "mounted-elsewhere"):
        videos.rename(videos.with_name(folder))
        found = records(vid("detect-boundaries", folder, "--shard", "1/2", "--json", "-q")[1])
        shares.append([os.path.basename(r["video"]) for r in found])
        videos.with_name(folder).rename(videos)
    assert shares[0] == shares[1]


def test_a_changed_video_is_done_again(videos, vid):
    call = ["detect-boundaries", "videos/v0.mp4", "--out", "found", "--json", "-q"]
    vid(*call)
    assert records(vid(*call)[1])[0]["skipped"]
    write_video(videos / "v0.mp4", 9)
    later = (videos.parent / "found" / "v0.boundaries.json").stat().st_mtime + 5
    os.utime(videos / "v0.mp4", (later, later))
    assert "skipped" not in records(vid(*call)[1])[0]


def test_parts_of_a_video_and_files_of_the_same_name_keep_apart(videos, vid):
    write_video(videos.parent / "more" / "v0.mp4", 5)
    (videos.parent / "parts.csv").write_text("path,start,end\nvideos/v1.mp4,0,1\nvideos/v1.mp4,1,2.5\nvideos/v0.mp4,,\nmore/v0.mp4,,\n")
    _, out, _ = vid("detect-boundaries", "parts.csv", "--out", "found", "--json", "-q")
    answer = records(out)
    assert [[b["frame"] for b in r["boundaries"]] for r in answer] == [[], [CUT], [CUT], [CUT]]
    names = {name for r in answer for name in r["files"]}
    assert len(names) == 4
    assert {"found/v1-0-1.boundaries.json", "found/v1-1-2.5.boundaries.json"} <= names


def test_both_detectors_write_into_one_folder_and_a_foreign_file_is_not_a_result(videos, vid):
    calls = {
        "boundaries": ["detect-boundaries", "videos", "--write", "csv,edl,html", "--save-scores"],
        "anomalies": ["detect-anomalies", "videos", "--set", "first_part=0.95", "--write", "csv,html"],
    }
    found = videos.parent / "found"
    first = {task: records(vid(*call, "--out", "found", "--json", "-q")[1]) for task, call in calls.items()}
    names = {task: {name for r in answer for name in r["files"]} for task, answer in first.items()}
    assert len(names["boundaries"] | names["anomalies"]) == 2 * 5 + 2 * 3
    assert {path.name for path in found.iterdir()} == {os.path.basename(name) for some in names.values() for name in some}
    assert all(f".{task}." in os.path.basename(name) for task, some in names.items() for name in some)
    before = {path: path.read_bytes() for path in found.iterdir()}
    assert b"boundar" in before[found / "v0.boundaries.html"]
    assert b"interval" in before[found / "v0.anomalies.html"]
    for task, call in calls.items():
        again = records(vid(*call, "--out", "found", "--json", "-q")[1])
        assert [r.pop("skipped") for r in again] == [True, True]
        assert again == first[task]
    assert {path: path.read_bytes() for path in found.iterdir()} == before

    (found / "v0.boundaries.html").write_text("a page of somebody else")
    (found / "v1.anomalies.json").write_text(json.dumps({**first["anomalies"][1], "intervals": "mine"}))
    for task, call in calls.items():
        again = records(vid(*call, "--out", "found", "--json", "-q")[1])
        assert [r.get("skipped", False) for r in again] == [task == "anomalies", task == "boundaries"]
    assert {path: path.read_bytes() for path in found.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--write", "jsn", "--out", "x"], "did you mean 'json'"),
        (["--write", "csv"], "--write needs a folder"),
        (["--write", "csv", "--save-scores"], "--write and --save-scores need a folder"),
        (["--threshold", "2"], "threshold"),
        (["--model", "nowhere"], "nowhere"),
        (["--from-scores", "--model", "nowhere"], "exclude"),
        (["--write", ",", "--out", "x"], "names nothing"),
        (["--out", "videos/v0.mp4"], "cannot write to"),
        (["--device", "cpu"], "belongs to a trained model"),
    ],
)
def test_usage_errors(videos, vid, arguments, words):
    code, out, err = vid("detect-boundaries", "videos", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_signal_stops_it_and_the_same_command_goes_on(videos, vid, tmp_path, many):
    inputs = [str(videos / "v0.mp4"), many(videos / "v1.mp4")]
    command = [sys.executable, "-m", "vidcli", "detect-boundaries", *inputs, "--out", str(tmp_path / "found"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in err
    assert json.loads((tmp_path / "found" / "v0.boundaries.json").read_text())["boundaries"] == first["boundaries"]
    _, out, _ = vid("detect-boundaries", videos / "v0.mp4", "--out", tmp_path / "found", "--json")
    assert records(out)[0]["skipped"]


@pytest.mark.parametrize(("value", "told"), [("30", "got '30', expected a number less than or equal to 1"), ("x", "got 'x', expected")])
def test_a_threshold_that_is_none(vid, value, told):
    code, _, err = vid("detect-boundaries", "x.mp4", "--threshold", value)
    assert code == 2
    assert f"error: --threshold: {told}" in err
