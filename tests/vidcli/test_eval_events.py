"""`vid eval events` as a user calls it."""

import json

import pytest

from tasks.core.data.segments.predictions import Event, event_dicts, write_results
from tasks.core.metrics.event_files import LABELS
from tasks.core.metrics.events import PROTOCOLS
from tasks.core.metrics.proposals import PROPOSALS
from vidcli.commands import eval_events

TRUTH = {
    "database": {
        "a": {"subset": "test", "annotations": [{"label": "dog", "segment": [0, 10]}, {"label": "cat", "segment": [4, 6]}]},
        "b": {"subset": "test", "annotations": [{"label": "dog", "segment": [20, 30]}, {"label": "dog", "segment": [5, 5]}]},
        "t": {"subset": "train", "annotations": [{"label": "dog", "segment": [0, 10]}]},
    }
}
FOUND = {"a": [Event("dog", 0, 10, 0.9), Event("cat", 4, 5.2, 0.8), Event("bird", 1, 2, 0.7)], "b": [Event("dog", 21, 30, 0.3)]}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with annotations and predictions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    write_results(tmp_path / "found.json", FOUND)
    return tmp_path


def test_the_command_knows_every_protocol_and_label():
    assert {each.value for each in eval_events.Name} == {*PROTOCOLS, PROPOSALS}
    assert {each.value for each in eval_events.Label} == set(LABELS)


def test_fractions_as_json_and_what_was_dropped(here, vid):
    call = ("eval", "events", "--predictions", "found.json", "--ground-truth", "truth.json", "--protocol", "thumos")
    code, out, err = vid(*call, "--json", "--out", "sub/result.json")
    result = json.loads(out)
    assert code == 0
    assert list(result["map"]) == ["0.3", "0.4", "0.5", "0.6", "0.7"]
    assert result["map"] == {"0.3": 1.0, "0.4": 1.0, "0.5": 1.0, "0.6": 1.0, "0.7": 0.5}
    assert result["average_map"] == pytest.approx(0.9)
    assert result["per_class"]["cat"] == {
        "ap": {"0.3": 1.0, "0.4": 1.0, "0.5": 1.0, "0.6": 1.0, "0.7": 0.0},
        "average": 0.8,
        "n_events": 1,
        "n_predictions": 1,
    }
    counts = {name: result[name] for name in ("n_predictions", "n_events", "n_videos", "n_dropped", "n_missing", "n_unknown", "n_classes")}
    assert counts == {"n_predictions": 4, "n_events": 3, "n_videos": 2, "n_dropped": 1, "n_missing": 0, "n_unknown": 0, "n_classes": 2}
    assert (result["protocol"], result["subset"], len(result["data_hash"])) == ("thumos", "test", 16)
    assert result["classes_without_events"] == {"bird": 1}
    assert "left out 1: events shorter than 1 ms" in err
    assert "predicted classes without events in subset 'test': 1, e.g. 'bird'; not in the mean" in err
    assert json.loads((here / "sub" / "result.json").read_text()) == result
    code, out, _ = vid(*call, "--json", "--subset", "Train")
    assert (code, out) == (3, "")


def test_the_table_has_the_columns_of_papers_and_fits(here, vid):
    truth = {"database": {"a": {"annotations": [{"label": "a very long name of what happens here", "segment": [0, 1]}]}}}
    (here / "long.json").write_text(json.dumps(truth))
    for protocol, rules in PROTOCOLS.items():
        code, out, _ = vid("eval", "events", "--predictions", "found.json", "--ground-truth", "long.json", "--protocol", protocol)
        table = out.split("\n\n")[0].splitlines()
        assert code == 0
        assert table[0].split() == ["class", "events", "found", *rules.shown, "avg"]
        assert max(map(len, table)) <= 80
    table = vid("eval", "events", "--predictions", "found.json", "--ground-truth", "truth.json")[1].splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["cat", "dog"]
    assert table[1].split() == ["cat", "1", "1", "100.0", "100.0", "0.0", "0.0", "0.0", "66.7"]


def test_our_own_output_says_the_same(here, vid):
    (here / "out").mkdir()
    for video, events in FOUND.items():
        record = {"video": f"clips/{video}.mp4", "duration_s": 30.0, "events": event_dicts(events)}
        (here / "out" / f"{video}.events.json").write_text(json.dumps(record))
    results = [
        json.loads(vid("eval", "events", "--predictions", p, "--ground-truth", "truth.json", "--json")[1]) for p in ("out", "found.json")
    ]
    for result in results:
        result.pop("predictions")
    assert results[0] == results[1]


def test_missing_and_unknown_videos_are_told(here, vid):
    write_results(here / "some.json", {"a": FOUND["a"], "x": FOUND["b"]})
    code, out, err = vid("eval", "events", "--predictions", "some.json", "--ground-truth", "truth.json", "--json")
    result = json.loads(out)
    assert (code, result["n_missing"], result["n_unknown"], result["map"]["0.5"]) == (0, 1, 1, (1 / 3 + 1) / 2)
    assert "1 of 2 videos of subset 'test' have no predictions, the first is 'b'; their events count as missed" in err
    assert "predictions of videos outside subset 'test': 1; they count as false positives" in err
    write_results(here / "names.json", {"a": [Event("hund", 0, 10, 0.9)]})
    code, _, err = vid("eval", "events", "--predictions", "names.json", "--ground-truth", "truth.json")
    assert code == 0
    assert "no predicted class has events; one that has is 'cat'" in err


def test_recall_of_proposals(here, vid):
    (here / "p.csv").write_text("video,start,end,score\na,0,10,0.9\nb,20,30,0.5\nb,50,60,0.9\na,4,6,0.1\n")
    call = ("eval", "events", "--predictions", "p.csv", "--ground-truth", "truth.json", "--protocol", "proposals")
    code, out, _ = vid(*call, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["average_recall"]["100"], result["n_predictions"], result["n_events"]) == (0.75, 4, 4)
    code, out, _ = vid(*call)
    assert out.splitlines()[0].split() == ["AR@1", "AR@5", "AR@10", "AR@50", "AR@100", "AUC"]


def test_errors_say_what_is_wrong(here, vid):
    write_results(here / "other.json", {"x": FOUND["a"]})
    write_results(here / "train.json", {"t": FOUND["a"]})
    write_results(here / "nan.json", {"a": [Event("dog", 0, 1, float("nan"))]})
    for predictions, truth, code, message in (
        ("other.json", "truth.json", 3, "have no video in common"),
        ("train.json", "truth.json", 3, "are of other subsets than 'test'"),
        ("nan.json", "truth.json", 3, "none of the 1 scores is a finite number"),
        ("truth.json", "found.json", 3, "are --predictions and --ground-truth swapped?"),
        ("truth.json", "truth.json", 3, "are --predictions and --ground-truth swapped?"),
        ("gone.json", "truth.json", 3, "gone.json: no such file"),
    ):
        found, out, err = vid("eval", "events", "--predictions", predictions, "--ground-truth", truth)
        assert (found, out) == (code, "")
        assert message in err
        assert len(err.splitlines()) <= 2
    write_results(here / "none.json", {})
    code, out, err = vid("eval", "events", "--predictions", "none.json", "--ground-truth", "truth.json", "--json")
    assert (code, json.loads(out)["average_map"]) == (0, 0)
    assert "2 of 2 videos" in err


def test_verbs_and_nouns_of_epic(here, vid):
    (here / "EPIC_100_validation.csv").write_text(
        "video_id,start_timestamp,stop_timestamp,verb_class,noun_class\nP01_01,00:00:01.00,00:00:03.00,3,12\nP01_01,00:01:00,00:01:02,0,12\n"
    )
    entries = [
        {"verb": 3, "noun": 5, "action": "3,5", "score": 0.9, "segment": [1, 3]},
        {"verb": 3, "noun": 12, "action": "3,12", "score": 0.8, "segment": [60, 62]},
    ]
    (here / "epic.json").write_text(json.dumps({"version": "0.2", "challenge": "action_detection", "results": {"P01_01": entries}}))
    found = {}
    for label in LABELS:
        call = ("--predictions", "epic.json", "--ground-truth", "EPIC_100_validation.csv", "--protocol", "epic", "--label", label)
        result = json.loads(vid("eval", "events", *call, "--json")[1])
        found[label] = (result["label"], result["average_map"], sorted(result["per_class"]))
    assert found == {"verb": ("verb", 0.5, ["0", "3"]), "noun": ("noun", 0.5, ["12"]), "action": ("action", 0.0, ["0-12", "3-12"])}
