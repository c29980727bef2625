"""Few-shot and open-set protocols: what is drawn, what is read from lists, and the mean of trials."""

import json
import math

import numpy as np
import prompting_toys as toys
import pytest
import yaml

from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError, UsageError
from tasks.prompting.config import TrialsConfig
from tasks.prompting.metrics import accuracy, mean_interval
from tasks.prompting.splits import splits
from vidcli.app import main


def rows_of(classes: int, each: int, start: int = 0) -> Rows:
    return Rows.of([Row(f"/data/v{start + number}.avi", label=f"class_{number % classes}") for number in range(classes * each)])


NONE = Rows.of([])


def test_few_shot_draws():
    rows = rows_of(10, 9)
    found = list(splits(TrialsConfig(trials=200), rows, NONE))
    assert len(found) == 200
    for split in found:
        train, test = set(split.train.values("path")), set(split.test.values("path"))
        assert (len(train), len(test), len(split.known)) == (25, 20, 5)
        assert not train & test
        assert set(split.test.values("label")) == set(split.train.values("label")) == set(split.asked)
    again = list(splits(TrialsConfig(trials=3), rows, NONE))
    assert [s.known for s in again] == [s.known for s in found[:3]]
    assert next(splits(TrialsConfig(trials=1, seed=1), rows, NONE)).train != found[0].train
    assert len({tuple(s.known) for s in found}) > 50


def test_all_way_draws():
    rows, val = rows_of(6, 7), rows_of(6, 2, 1000)
    for split in splits(TrialsConfig(kind="all", trials=10), rows, val):
        assert len(split.train) == 30
        assert split.test == val
        assert split.known == split.asked == sorted(f"class_{number}" for number in range(6))


@pytest.mark.parametrize(("classes", "held", "kept"), [(20, 0.25, 15), (20, 0.5, 10), (200, 0.25, 150), (200, 0.5, 100), (700, 3 / 7, 400)])
def test_open_set_draws(classes, held, kept):
    rows, val = rows_of(classes, 1), rows_of(classes, 1, 10_000)
    for split in splits(TrialsConfig(kind="open", held=held, trials=2), rows, val):
        assert (len(split.known), len(split.asked)) == (kept, classes - kept)
        assert not set(split.known) & set(split.asked)
        assert set(split.train.values("label")) == set(split.known)
        assert set(split.test.values("label")) == set(split.asked)


def test_published_lists(tmp_path):
    rows = Rows.of([Row(f"/data/{label}/{label}_{n}.avi", label=label) for label in ("kick_ball", "pour") for n in range(4)])
    for part, lines in (("train", ["kick ball/kick_ball_2", "pour/pour_0"]), ("test", ["kick ball/kick_ball_3", "pour/pour_1"])):
        (tmp_path / part).mkdir()
        (tmp_path / part / "split_0.list").write_text("\n".join(lines) + "\n")
    (split,) = splits(TrialsConfig(trials=1, files=str(tmp_path)), rows, NONE)
    assert [path[-15:] for path in split.train.values("path")] == ["kick_ball_2.avi", "pour/pour_0.avi"]
    assert len(split.test) == 2
    (tmp_path / "test" / "split_0.list").unlink()
    (split,) = splits(TrialsConfig(trials=1, files=str(tmp_path)), rows, NONE)
    assert len(split.test) == 6
    with pytest.raises(UsageError, match=r"no train/split_1.list for trial 2"):
        list(splits(TrialsConfig(trials=2, files=str(tmp_path)), rows, NONE))
    (tmp_path / "train" / "split_0.list").write_text("pour/pour_9\n")
    with pytest.raises(InputError, match="lists 'pour/pour_9'"):
        list(splits(TrialsConfig(trials=1, files=str(tmp_path)), rows, NONE))


def test_published_lists_of_classes(tmp_path):
    rows, val = rows_of(4, 2), rows_of(4, 1, 100)
    (tmp_path / "train.list").write_text("class 0\nclass 2\n")
    (tmp_path / "test.list").write_text("class 1\nclass 3\n")
    (split,) = splits(TrialsConfig(kind="open", trials=1, files=str(tmp_path)), rows, val)
    assert (split.known, split.asked) == (["class_0", "class_2"], ["class_1", "class_3"])
    (tmp_path / "test.list").write_text("class 0\n")
    with pytest.raises(InputError, match="in both lists"):
        list(splits(TrialsConfig(kind="open", trials=1, files=str(tmp_path)), rows, val))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ways": 12}, "10 classes are too few"),
        ({"shots": 9}, "has 9 videos, 10 are needed"),
        ({"kind": "all"}, "tested on a validation set"),
    ],
)
def test_too_little_data(settings, said):
    with pytest.raises((InputError, UsageError), match=said):
        list(splits(TrialsConfig(trials=1, **settings), rows_of(10, 9), NONE))


def test_the_interval_of_trials():
    mean, half = mean_interval(np.array([60.0, 70.0, 80.0, 90.0]))
    assert (mean, half) == (75, pytest.approx(1.96 * math.sqrt(500 / 3) / 2))
    assert mean_interval(np.array([50.0])) == (50, 0)


@pytest.mark.parametrize(
    ("top1", "top5", "average"), [(65.4, 88.7, 77.1), (68.8, 90.1, 79.5), (76.6, 93.3, 85.0), (64.7, 88.5, 76.6), (58.4, 82.6, 70.5)]
)
def test_average_of_the_published_rows(top1, top5, average):
    assert (top1 + top5) / 2 == pytest.approx(average, abs=0.1)


def test_average_of_top1_and_top5():
    chances = np.eye(10)[[0, 1, 2, 3]] + 0.01 * np.arange(10)
    found = accuracy(chances, np.array([0, 1, 2, 0]))
    assert found["top1"] == 75
    assert found["avg"] == (found["top1"] + found["top5"]) / 2


def test_trials_from_the_terminal(tmp_path, capsys):
    toys.write_world(tmp_path, 24)
    settings = json.loads(json.dumps(toys.config().model_dump(mode="json", exclude_unset=True)))
    settings |= {"task": "prompting", "verb": "finetune", "clip": str(tmp_path / "clip"), "train": {"max_steps": 20, "batch_size": 6}}
    settings["data"] = {"streams": {"visual": {"folder": str(tmp_path / "features")}}, "workers": 0}
    settings["trials"] = {"kind": "way", "ways": 3, "shots": 2, "trials": 3}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings))
    words = [
        "finetune",
        "--preset",
        f"{tmp_path}/small.yaml",
        "--data",
        f"{tmp_path}/videos.csv@train",
        "--out",
        f"{tmp_path}/run",
        "--json",
    ]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    trials = json.loads((tmp_path / "run" / "trials.json").read_text())
    assert len(trials) == result["trials"] == 3
    assert result["top1"] == pytest.approx(sum(trial["top1"] for trial in trials) / 3)
    assert result["top1"] > result["zero_shot_top1"]
    assert result["protocol"] == "2-shot 3-way"
    assert all(len(trial["videos"]) == 6 and trial["n"] == 6 for trial in trials)
    assert not list((tmp_path / "run").rglob("checkpoints"))
    open_set = ["--set", "trials={kind: open, trials: 1, held: 0.5}", "--val", f"{tmp_path}/videos.csv@val", "--out", f"{tmp_path}/open"]
    assert main([*words[:-3], *open_set, "--json"]) == 0
    assert len(json.loads((tmp_path / "open" / "trials.json").read_text())[0]["classes"]) == 2
