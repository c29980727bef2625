"""`vid runs` over whatever is left of runs."""

import fcntl
import json
import os
import subprocess
import sys

import pytest

TRAIN = {"kind": "train", "step": 4, "total": 10, "loss": 0.5, "clips": 8, "clips_per_s": 2.0, "skipped": 1}
FACTS = {"task": "masked", "verb": "pretrain", "preset": "masked/tats-tiny", "argv": ["vid", "pretrain", "--data", "a b.csv"]}


def run_folder(folder, lines=(TRAIN,), checkpoint=True, **files):
    """A run folder; `files`: name with `_` for `.` -> text."""
    folder.mkdir(parents=True)
    texts = {"config_yaml": "task: masked\n", "run_json": json.dumps(FACTS), **files}
    texts = {"metrics_jsonl": "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), **texts}
    for name, text in texts.items():
        if text is not None:
            (folder / name.replace("_", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())
    if checkpoint:
        (folder / "checkpoints" / "step-00000004").mkdir(parents=True)
        (folder / "checkpoints" / "step-00000004" / "DONE").touch()
    return folder


ODD = {
    "finished": ({"result_json": '{"top1": 61.25}'}, "finished", "top1 61.25"),
    "killed": ({"lines": [TRAIN, '{"kind": "tr']}, "stopped", "loss 0.5"),
    "preempted": ({}, "stopped", "loss 0.5"),
    "diverged": ({"lines": [TRAIN, {"kind": "diverged", "step": 5, "loss": "nan"}]}, "diverged", "loss 0.5"),
    "begun": ({"lines": [], "checkpoint": False}, "begun", None),
    "no-metrics": ({"metrics_jsonl": None}, "stopped", None),
    "no-run-json": ({"run_json": None}, "stopped", "loss 0.5"),
    "half-checkpoint": ({"checkpoint": False}, "begun", "loss 0.5"),
    "torn-run-json": ({"run_json": '{"task": "ma'}, "damaged", "loss 0.5"),
    "list-run-json": ({"run_json": "[1, 2]"}, "damaged", "loss 0.5"),
    "empty-run-json": ({"run_json": ""}, "damaged", "loss 0.5"),
    "binary-run-json": ({"run_json": b"\xff\xfe\x00"}, "damaged", "loss 0.5"),
    "deep-run-json": ({"run_json": "[" * 100_000}, "damaged", "loss 0.5"),
    "torn-result": ({"result_json": '{"top1": '}, "damaged", "loss 0.5"),
    "torn-config": ({"config_yaml": "a: ["}, "damaged", "loss 0.5"),
    "empty-config": ({"config_yaml": ""}, "damaged", "loss 0.5"),
    "binary-config": ({"config_yaml": b"\xff\x00"}, "damaged", "loss 0.5"),
    "binary-metrics": ({"metrics_jsonl": b"\xff\xfe\n"}, "stopped", None),
    "numbers-as-lines": ({"lines": ["1\n", "null\n", "[]\n", TRAIN]}, "stopped", "loss 0.5"),
    "text-for-numbers": ({"lines": [{"kind": "train", "step": "4", "total": "x", "loss": "nan", "clips_per_s": "y"}]}, "stopped", None),
    "nothing-in-lines": ({"lines": [{}, {"kind": "train"}]}, "stopped", None),
    "nan-loss": ({"lines": ['{"kind": "train", "step": 3, "loss": NaN, "total": Infinity}\n']}, "stopped", None),
    "no-pace": ({"lines": [{**TRAIN, "clips_per_s": 0}]}, "stopped", "loss 0.5"),
    "past-the-end": ({"lines": [{**TRAIN, "step": 12}]}, "stopped", "loss 0.5"),
    "truth-for-loss": ({"lines": [{**TRAIN, "loss": True}]}, "stopped", None),
    "odd-argv": ({"run_json": '{"argv": 7}'}, "stopped", "loss 0.5"),
    "mixed-argv": ({"run_json": '{"argv": ["vid", 7, null]}'}, "stopped", "loss 0.5"),
    "odd-facts": ({"run_json": '{"task": 7, "preset": [1], "cwd": 3}'}, "stopped", "loss 0.5"),
    "odd-result": ({"result_json": '{"top1": "high"}'}, "finished", "loss 0.5"),
    "links": ({}, "stopped", "loss 0.5"),
}


@pytest.fixture
def odd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (made, *_) in ODD.items():
        run_folder(tmp_path / "runs" / name, **made)
    (tmp_path / "runs" / "links" / "gone").symlink_to("nowhere")
    (tmp_path / "runs" / "links" / "loop").symlink_to(tmp_path / "runs" / "links")
    (tmp_path / "runs" / "no-run").mkdir()
    (tmp_path / "runs" / "no-run" / "config.yaml").write_text("mine: 1\n")
    return tmp_path


def test_odd_runs_are_listed_one_line_each(odd, vid):
    code, out, _ = vid("runs", "list", "--json")
    rows = {row["run"].removeprefix("runs/"): row for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert {name: (row["state"], row["metric"]) for name, row in rows.items()} == {
        name: (state, metric) for name, (_, state, metric) in ODD.items()
    }
    code, out, err = vid("runs", "list")
    assert code == 0
    assert len(out.splitlines()) == len(ODD) + 1
    assert "runs/torn-config: config.yaml cannot be understood" in err
    for name in ODD:
        assert vid("runs", "show", f"runs/{name}", "--json")[0] == 0, name


def test_pipes_are_not_waited_for(tmp_path):
    run_folder(tmp_path / "runs" / "mine", metrics_jsonl=None, run_json=None)
    for name in ("metrics.jsonl", "run.json", ".lock"):
        os.mkfifo(tmp_path / "runs" / "mine" / name)
    words = [sys.executable, "-m", "vidcli", "runs", "list", str(tmp_path / "runs"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "damaged")


def test_a_run_that_is_being_written(tmp_path, vid):
    folder = run_folder(tmp_path / "runs" / "mine")
    with open(folder / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shown = json.loads(vid("runs", "show", folder, "--json")[1])
        assert (shown["state"], shown["left"], shown["skipped"]) == ("running", "0:24", 1)
    assert json.loads(vid("runs", "show", folder, "--json")[1])["state"] == "stopped"


def test_how_to_go_on(tmp_path, vid, monkeypatch):
    here = run_folder(tmp_path / "here", run_json=json.dumps({**FACTS, "cwd": str(tmp_path)}))
    away = run_folder(tmp_path / "away", run_json=json.dumps({**FACTS, "cwd": "/home/me/my runs"}))
    done = run_folder(tmp_path / "done", result_json='{"loss": 1}')
    monkeypatch.chdir(tmp_path)
    told = [json.loads(vid("runs", "show", folder, "--json")[1]) for folder in (here, away, done)]
    assert told[0]["continue"] == "vid pretrain --data 'a b.csv'"
    assert told[1]["continue"] == "cd '/home/me/my runs' && vid pretrain --data 'a b.csv'"
    assert (told[2]["continue"], told[2]["left"]) == (None, None)


def test_runs_tell_where_they_stand(tmp_path, vid, monkeypatch):
    run_folder(tmp_path / "runs" / "done", result_json='{"top1": 61.25}')
    run_folder(tmp_path / "runs" / "going", lines=[TRAIN, '{"kind": "tr'])
    monkeypatch.chdir(tmp_path)
    code, out, _ = vid("runs", "list", "--json")
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert (first["state"], first["metric"]) == ("finished", "top1 61.25")
    assert (second["state"], second["step"], second["of"], second["left"]) == ("stopped", 4, 10, "0:24")
    assert second["continue"] == "vid pretrain --data 'a b.csv'"
    code, out, _ = vid("runs", "list")
    assert out.splitlines()[0].split() == ["run", "state", "step", "of", "left", "metric", "size"]
    assert "continue" in vid("runs", "show", "runs/going")[1]
    assert vid("runs", "show", "runs")[0] == 2


def test_size_counts_linked_files_once(tmp_path, vid):
    folder = run_folder(tmp_path / "mine")
    before = json.loads(vid("runs", "show", folder, "--json")[1])["bytes"]
    (folder / "weights").write_bytes(bytes(1000))
    os.link(folder / "weights", folder / "checkpoints" / "weights")
    assert json.loads(vid("runs", "show", folder, "--json")[1])["bytes"] == before + 1000


def test_parts_are_told_of_the_one_written_last(tmp_path, vid):
    folder = run_folder(tmp_path / "mine", metrics_jsonl=None, checkpoint=False)
    for place, (name, step) in enumerate((("appearance", 10), ("motion", 3))):
        part = run_folder(folder / name, lines=[{**TRAIN, "step": step}], config_yaml=None, run_json=None)
        os.utime(part / "metrics.jsonl", (place, place))
    shown = json.loads(vid("runs", "show", folder, "--json")[1])
    assert (shown["state"], shown["step"], len(shown["checkpoints"])) == ("stopped", 3, 1)


def test_what_is_no_run(tmp_path, vid, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert vid("runs", "list")[0] == 0
    assert vid("runs", "list", "nowhere")[0] == 2
    assert vid("runs", "show", tmp_path)[0] == 2
    (tmp_path / "file").write_text("")
    assert vid("runs", "show", "file")[0] == 2
    assert vid("runs", "list", "file")[0] == 2
