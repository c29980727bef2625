"""`vid detect-anomalies` and `vid eval anomalies` as a user calls them."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
from found_anomalies import write_yard


@pytest.fixture
def yard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VID_WORKERS", "1")
    write_yard(tmp_path / "quiet" / "n.mp4", (0, 0), 100, 1)
    for number in range(2):
        write_yard(tmp_path / "videos" / f"v{number}.mp4", (25, 40), 50, number)
    return tmp_path


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def test_found_written_and_measured(yard, vid, monkeypatch):
    call = ["detect-anomalies", "videos", "--normal", "quiet", "--out", "found", "--write", "json,csv,html,mp4", "--json", "-q"]
    code, out, _ = vid(*call)
    assert code == 0
    answer = records(out)
    assert [r["video"] for r in answer] == ["videos/v0.mp4", "videos/v1.mp4"]
    assert all(25 <= r["peak"]["frame"] < 45 for r in answer)
    files = {name: (yard / name).stat().st_mtime_ns for r in answer for name in r["files"]}
    assert len(files) == 8

    again = records(vid(*call)[1])
    assert [r.pop("skipped") for r in again] == [True, True]
    assert again == answer
    assert {name: (yard / name).stat().st_mtime_ns for name in files} == files

    with open("labels.csv", "w") as file:
        file.write("video,frame,label\n")
        file.writelines(f"v{v}.mp4,{i},{int(25 <= i < 40)}\n" for v in range(2) for i in range(50))
    results = []
    for predictions in ("found", "found.jsonl", "all.csv"):
        if predictions == "found.jsonl":
            (yard / predictions).write_text(out)
        elif predictions == "all.csv":
            both = [(yard / "found" / f"v{v}.anomalies.csv").read_text().splitlines(keepends=True) for v in range(2)]
            (yard / predictions).write_text("".join(both[0] + both[1][1:]))
        code, measured, _ = vid("eval", "anomalies", "--predictions", predictions, "--ground-truth", "labels.csv", "--json", "-q")
        assert code == 0
        results.append(records(measured)[0])
    assert results[0]["auc"] > 0.8
    assert results[0]["n_frames"] == 100
    assert set(results[0]["parts"]) == set(answer[0]["frames"]["parts"])
    for name in ("auc", "eer", "ap", "parts", "videos"):
        assert results[0][name] == results[1][name] == results[2][name]


def test_a_changed_video_is_done_again(yard, vid):
    call = ["detect-anomalies", "videos/v0.mp4", "--normal", "quiet", "--out", "found", "--write", "html", "--json", "-q"]
    vid(*call)
    assert records(vid(*call)[1])[0]["skipped"]
    write_yard(yard / "videos" / "v0.mp4", (25, 40), 50, 9)
    later = (yard / "found" / "v0.anomalies.html").stat().st_mtime + 5
    os.utime(yard / "videos" / "v0.mp4", (later, later))
    assert "skipped" not in records(vid(*call)[1])[0]


@pytest.mark.parametrize("kinds", [[], ["--write", "csv"]])
def test_other_settings_are_noticed_whatever_was_written(yard, vid, kinds):
    call = ["detect-anomalies", "videos/v0.mp4", "--first-part", "0.45", "--out", "found", *kinds, "--json", "-q"]
    vid(*call)
    assert records(vid(*call)[1])[0]["skipped"]
    for change in (["--threshold", "0.9"], ["--smooth", "0.3"]):
        assert "skipped" not in records(vid(*call, *change)[1])[0]


def test_alarms_and_failures_as_exit_codes(yard, vid):
    call = ["detect-anomalies", "videos", "--normal", "quiet", "--out", "found", "-q"]
    code, _, err = vid(*call, "--fail-above", "0.01")
    assert code == 10
    assert "videos/v0.mp4: score" in err
    assert "is above 0.01" in err
    assert len(list((yard / "found").iterdir())) == 2  # written before
    assert vid(*call, "--fail-above", "0.01")[0] == 10  # of videos that were done before
    assert vid(*call, "--fail-above", "1")[0] == 0
    (yard / "videos" / "text.mp4").write_text("no video")
    code, _, err = vid(*call, "--fail-above", "0.01")
    assert (code, "is above 0.01" in err, "text.mp4" in err) == (4, True, True)


def test_nothing_readable_and_strict(yard, vid):
    assert vid("detect-anomalies", "gone.mp4", "-q", "--fail-above", "0")[0] == 3
    code, _, err = vid("detect-anomalies", "gone.mp4", "videos", "-q", "--strict")
    assert (code, "without --strict" in err) == (3, True)


def test_tables_for_people(yard, vid, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("videos/v0.mp4\n"))
    code, out, err = vid("detect-anomalies", "-", "--threshold", "0", "--first-part", "0.45")
    assert code == 0
    header, line = out.splitlines()
    assert header.split() == ["video", "start", "end", "frames", "peak", "at"]
    assert line.split()[:4] == ["videos/v0.mp4", "0:00.000", "0:05.000", "0-49"]
    assert "the first 45 % of each video is taken as normal" in err
    assert "1 of 1 videos, 1 intervals" in err
    (yard / "p.csv").write_text("video,frame,score\na,0,0.5\na,1,0.25\n")
    (yard / "g.csv").write_text("video,frame,label\na,0,1\na,1,0\n")
    code, out, _ = vid("eval", "anomalies", "--predictions", "p.csv", "--ground-truth", "g.csv", "--out", "result.json")
    assert code == 0
    assert "1.0000" in out
    assert json.loads((yard / "result.json").read_text())["auc"] == 1


def test_protocols_of_the_command_line(yard, vid):
    (yard / "p.csv").write_text("video,frame,score\n" + "".join(f"{v},{i},{i / 20}\n" for v in "ab" for i in range(20)))
    (yard / "g.csv").write_text("video,frame,label\n" + "".join(f"{v},{i},{int(i > 9 or v == 'b')}\n" for v in "ab" for i in range(20)))
    call = ["eval", "anomalies", "--predictions", "p.csv", "--ground-truth", "g.csv", "--json", "-q"]
    options = ["--protocol", "macro-auc", "--one-class", "skip", "--smooth", "2f", "--normalize", "per_video_minmax", "--trim", "8,7"]
    result = records(vid(*call, *options)[1])[0]
    assert (result["auc"], result["n_frames"], result["one_class"], result["trim"]) == (1, 10, "skip", [8, 7])
    assert result["smoothing"] == {"kind": "gaussian", "sigma": 2, "unit": "frames"}
    code, _, err = vid(*call, "--smooth", "0.5")
    assert (code, "0.5s for seconds" in err) == (2, True)
    assert vid(*call, "--trim", "8")[0] == 2
    (yard / "g.csv").write_text("video,frame,label\na,0,0\na,99,1\n")
    code, _, err = vid(*call)
    assert (code, "frame 99 of 'a'" in err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--write", "mpg4", "--out", "x"], "did you mean 'mp4'"),
        (["--write", "csv"], "--out FOLDER"),
        (["--write", ",", "--out", "x"], "names nothing"),
        (["--first-part", "1"], "first_part"),
        (["--model", "nowhere"], "nowhere"),
        (["--model", "nowhere", "--normal", "quiet"], "exclude each other"),
    ],
)
def test_usage_errors(yard, vid, arguments, words):
    code, out, err = vid("detect-anomalies", "videos", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_signal_stops_it_and_the_same_command_goes_on(yard, many):
    inputs = ["videos/v0.mp4", many(yard / "videos" / "v0.mp4")]
    command = [sys.executable, "-m", "vidcli", "detect-anomalies", *inputs, "--out", "found"]
    command += ["--first-part", "0.45", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=yard)
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in err
    assert json.loads((yard / "found" / "v0.anomalies.json").read_text())["frames"] == first["frames"]


@pytest.mark.parametrize("flag", ["--threshold", "--fail-above"])
def test_a_limit_that_no_score_reaches_is_refused(vid, flag):
    code, _, err = vid("detect-anomalies", "x.mp4", flag, "30")
    assert (code, f"{flag} 30: without a model scores lie between 0 and 1" in err) == (2, True)
