"""`vid data` and `vid eval classify` as a user calls them."""

import csv
import json
import types

import pytest

from vidcli.commands import data_check, eval_classify


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """A small set of labelled videos below the working directory."""
    synthetic = pytest.importorskip("tasks.core.data.synthetic")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    synthetic.render_motion_set(tmp_path / "set", 2, seed=0, frames=8, size=32, splits={"train": 1.0})
    return tmp_path / "set"


def test_index_writes_a_manifest_once(videos, vid):
    code, out, _ = vid("data", "index", videos, "-o", "all.csv", "--json")
    counts = json.loads(out)
    with open("all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (code, counts["videos"]) == (0, len(rows))
    assert counts["labels"] == len({row["label"] for row in rows})
    code, _, err = vid("data", "index", videos, "-o", "all.csv")
    assert (code, "--force" in err) == (2, True)
    assert vid("data", "index", videos, "-o", "all.csv", "--force", "-q")[0] == 0


def _read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_index_divides_and_draws(tmp_path, monkeypatch, vid):
    monkeypatch.chdir(tmp_path)
    lines = [f"{label}/{n}.mp4,{label},P{n % 5}" for label in "abcd" for n in range(20)]
    (tmp_path / "all.csv").write_text("path,label,person\n" + "\n".join(lines) + "\n")
    code, out, _ = vid("data", "index", "all.csv", "--split", "0.8", "-o", "divided.csv", "--json")
    assert (code, json.loads(out)["splits"]) == (0, {"train": 64, "val": 16})
    rows = _read("divided.csv")
    assert [sum(row["label"] == label and row["split"] == "val" for row in rows) for label in "abcd"] == [4] * 4
    assert vid("data", "index", "all.csv", "--split", "0.8", "--group", "person", "-o", "people.csv", "-q")[0] == 0
    sides = {(row["person"], row["split"]) for row in _read("people.csv")}
    assert len(sides) == 5  # nobody is on both
    assert len({who for who, split in sides if split == "val"}) == 1
    assert vid("data", "index", "all.csv", "--fraction", "0.15", "--stratify", "label", "-o", "part.csv", "-q")[0] == 0
    assert [sum(row["label"] == label for row in _read("part.csv")) for label in "abcd"] == [3] * 4
    for words, told in (
        (["--split", "80"], "--split 80 is not a share"),
        (["--group", "person"], "add --split SHARE"),
        (["--stratify", "label"], "add --fraction SHARE"),
        (["--fraction", "0.5", "--stratify", "lable"], "did you mean 'label'"),
    ):
        code, _, err = vid("data", "index", "all.csv", *words, "-o", "x.csv")
        assert (code, told in err) == (2, True), err
    code, _, err = vid("data", "index", "divided.csv", "--split", "0.5", "-o", "x.csv")
    assert (code, "have splits already: train, val" in err) == (2, True)
    assert not (tmp_path / "x.csv").exists()


def test_check_tells_all_some_and_none_apart(videos, vid):
    good = sorted(videos.rglob("*.mp4"))[:2]
    bad = videos / "text.mp4"
    bad.write_text("not a video")
    code, out, err = vid("data", "check", *good)
    assert (code, out.count("none")) == (0, 2)
    assert "2 of 2 rows can be read" in err
    code, out, _ = vid("data", "check", good[0], bad, "--json", "--no-seek", "-q")
    first, second = map(json.loads, out.splitlines())
    assert (code, first["ok"], second["ok"]) == (4, True, False)
    assert second["problems"]
    assert vid("data", "check", bad, "-q")[0] == 3
    assert vid("data", "check", "nowhere.csv")[0] == 3


def test_check_of_many_shows_problems_first_and_writes_all(videos, vid, monkeypatch):
    good = sorted(videos.rglob("*.mp4"))[:3]
    bad = videos / "text.mp4"
    bad.write_text("not a video")
    code, out, _ = vid("data", "check", *good, bad, "--no-seek", "-q")
    lines = out.splitlines()
    assert (code, len(lines)) == (4, 5)
    assert lines[0].split()[:2] == ["path", "problems"]
    assert "text.mp4" in lines[1]
    monkeypatch.setattr(data_check, "FEW", 2)
    code, out, err = vid("data", "check", *good, bad, "--no-seek", "--out", "all.csv")
    assert len(out.splitlines()) == 2
    assert "3 rows without problems are not shown" in err
    rows = _read("all.csv")
    assert [row["path"] for row in rows] == [str(path) for path in (*good, bad)]
    assert json.loads(rows[3]["problems"]) == ["not a readable video: it is text"]
    assert len(vid("data", "check", *good, bad, "--no-seek", "--all", "--out", "all.jsonl", "-q")[1].splitlines()) == 5
    assert len((videos.parent / "all.jsonl").read_text().splitlines()) == 4


def test_a_stopped_check_says_what_is_written(videos, vid, monkeypatch):
    import os
    import signal

    from tasks.core.video import checkers

    def stopped(paths, workers, timeout, seek, asked):
        yield paths[0], {"ok": True, "problems": []}
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()

    monkeypatch.setattr(checkers, "run_all", stopped)
    files = sorted(videos.rglob("*.mp4"))[:3]
    code, _, err = vid("data", "check", *files, "--out", "part.csv")
    assert code == 130
    assert "1 of 3 rows were checked, they are in part.csv" in err
    assert "begins anew" in err
    assert len(_read("part.csv")) == 1
    assert "nothing is written" in vid("data", "check", *files)[2]


def test_eval_maps_its_flags_and_reports_one_object(vid, monkeypatch, tmp_path):
    seen = []

    def run(config, reporter, output):
        seen.append(config)
        return {"top1": 50.0, "n": 4, "n_skipped": len(seen) - 1, "views": "2x1"}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tasks.registry.verb_module", lambda task, verb: types.SimpleNamespace(run=run))
    flags = "--model m --data v@val --gallery t --protocol knn --clips 2 --crops 1 --k 3 --batch-size 5 --workers 0 --decoder pyav --strict"
    code, out, _ = vid("eval", "classify", *flags.split(), "--scores", "s.csv", "--out", "r.json", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "r.json").read_text()) == {"top1": 50.0, "n": 4, "n_skipped": 0, "views": "2x1"}
    config = seen[0]
    assert (config.model, config.protocol, config.k, config.batch_size, config.strict) == (("m",), "knn", 3, 5, True)
    assert (config.data.val, config.data.train, config.data.workers, config.data.decoder) == (["v@val"], ["t"], 0, "pyav")
    assert (config.views.clips, config.views.crops, config.save_scores) == (2, 1, "s.csv")
    assert vid("eval", "classify", "--model", "m", "--data", "v")[0] == 4
    code, _, err = vid("eval", "classify", "--model", "m", "--data", "v", "--crops", "2")
    assert code == 2
    assert "views.crops: got 2 (from --crops), expected one of 1, 3, 10" in err


def test_every_flag_of_eval_is_an_option():
    import inspect

    assert set(eval_classify.FLAGS) <= set(inspect.signature(eval_classify.command).parameters)
