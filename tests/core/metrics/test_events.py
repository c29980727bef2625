"""Mean average precision of events against a slow reference in plain Python, and by hand."""

import time

import numpy as np
import pytest

from tasks.core.data.segments.activitynet import AMBIGUOUS
from tasks.core.data.segments.table import EventTable
from tasks.core.data.segments.truth import read_truth
from tasks.core.errors import UsageError
from tasks.core.metrics import event_matching
from tasks.core.metrics.events import NOT_A_CLASS, NOT_FINITE, PROTOCOLS, TOO_SHORT, TWICE, event_scores


def tiou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (b[1] - b[0]) + (a[1] - a[0]) - shared
    return shared / union if union > 0 else 0.0


def reference(predictions, truth, thresholds, once_s, least_s):
    """{class: [AP per threshold]} of lists of (video, label, start, end[, score]), one prediction after the other."""
    kept = []
    for event in truth:
        same = [other for other in kept if other[:2] == event[:2]]
        twice = any(abs(event[2] - other[2]) <= once_s and abs(event[3] - other[3]) <= once_s for other in same)
        if event[3] - event[2] >= least_s and not twice:
            kept.append(event)
    found = {}
    for label in {event[1] for event in kept}:
        events = [event for event in kept if event[1] == label]
        mine = [(score, i, video, (start, end)) for i, (video, other, start, end, score) in enumerate(predictions) if other == label]
        mine.sort(key=lambda entry: (-entry[0], -entry[1]))
        found[label] = [_average_precision(mine, events, threshold) for threshold in thresholds]
    return found


def _average_precision(predictions, events, threshold):
    taken, hits = set(), []
    for _, _, video, segment in predictions:
        free = [(tiou(segment, event[2:]), i) for i, event in enumerate(events) if event[0] == video and i not in taken]
        best = max(free, default=(0.0, -1))
        hits.append(best[0] >= threshold)
        if hits[-1]:
            taken.add(best[1])
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precision[n:]) for n in range(len(hits)) if hits[n]) / len(events)


def table(rows):
    """EventTable of (video, label, start, end[, score])."""
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 5
    return EventTable.of(columns[0], columns[1], list(zip(columns[2], columns[3], strict=True)), columns[4] if len(columns) > 4 else None)


def world(seed, ties=False):
    """(predictions, truth): missing and unknown videos, a class without predictions and one without events, segments of no length."""
    random = np.random.default_rng(seed)
    truth, predictions = [], []
    for _ in range(random.integers(1, 50)):
        start, length = random.uniform(0, 60), random.uniform(0.5, 20)
        truth.append([f"v{random.integers(4)}", f"c{random.integers(4)}", start, start + length])
    for _ in range(random.integers(0, 200)):
        video, label, start, end = truth[random.integers(len(truth))]
        video = video if random.random() < 0.8 else f"v{random.integers(1, 6)}"
        label = label if random.random() < 0.7 else f"c{random.integers(1, 6)}"
        start = start + random.normal(0, 2)
        end = start if random.random() < 0.05 else max(start, end + random.normal(0, 2))
        predictions.append([video, label, start, end, random.random()])
    if ties:
        for row in truth + predictions:
            row[2:4] = round(row[2]), round(row[3]) + (len(row) == 4)
        for row in predictions:
            row[4] = round(row[4], 1)
    predictions = [row for row in predictions if row[1] != "c0"]
    return [tuple(row) for row in predictions], [tuple(row) for row in truth]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_one_prediction_after_the_other(protocol, ties, seed):
    rules = PROTOCOLS[protocol]
    predictions, truth = world(seed, ties)
    truth += [(*truth[0][:2], truth[0][2] + 0.0005, truth[0][3]), (*truth[0][:3], truth[0][2])]
    expected = reference(predictions, truth, rules.thresholds, rules.once_s, rules.least_s)
    scores = event_scores(table(predictions), table(truth), protocol)
    assert list(scores["per_class"]) == sorted(expected)
    for label, values in expected.items():
        assert list(scores["per_class"][label]["ap"].values()) == pytest.approx(values, abs=1e-12)
        assert scores["per_class"][label]["average"] == pytest.approx(np.mean(values), abs=1e-12)
    means = np.mean(list(expected.values()), axis=0)
    assert list(scores["map"].values()) == pytest.approx(means, abs=1e-12)
    assert scores["average_map"] == pytest.approx(means.mean(), abs=1e-12)


def test_pairs_in_small_portions_are_the_same_pairs(monkeypatch):
    predictions, truth = world(3)
    whole = event_scores(table(predictions), table(truth))
    monkeypatch.setattr(event_matching, "_PAIRS", 5)
    assert event_scores(table(predictions), table(truth)) == whole


def test_thresholds_are_those_of_the_field():
    _, truth = world(0)
    keys = {
        protocol: list(event_scores(table([(*event, 1.0) for event in truth]), table(truth), protocol)["map"]) for protocol in PROTOCOLS
    }
    assert keys == {
        "unav": ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"],
        "thumos": ["0.3", "0.4", "0.5", "0.6", "0.7"],
        "activitynet": ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"],
        "epic": ["0.1", "0.2", "0.3", "0.4", "0.5"],
    }
    for protocol, rules in PROTOCOLS.items():
        assert set(rules.shown) <= set(keys[protocol])


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_perfect_predictions_have_one_at_every_threshold(protocol):
    for seed in range(5):
        _, truth = world(seed)
        scores = event_scores(table([(*event, 0.5) for event in truth]), table(truth), protocol)
        assert set(scores["map"].values()) == {1.0}
        assert (scores["average_map"], scores["n_dropped"]) == (1.0, 0)


def test_by_hand():
    """Two events; predictions by score: right, wrong, right. Precision 1, 1/2, 2/3; recall 1/2, 1/2, 1: AP = (1 + 2/3) / 2."""
    truth = [("v", "a", 0, 10), ("w", "a", 20, 30)]
    predictions = [("w", "a", 20, 30, 0.1), ("v", "a", 0, 10, 0.9), ("v", "a", 0, 10, 0.5)]
    assert event_scores(table(predictions), table(truth))["map"]["0.5"] == pytest.approx(5 / 6)
    # an overlap of exactly the threshold counts: [0, 5] of [0, 10]
    half = [("v", "a", 0, 5, 0.9), ("w", "a", 20, 25, 0.8)]
    found = event_scores(table(half), table(truth))["map"]
    assert (found["0.5"], found["0.6"]) == (1.0, 0.0)
    assert event_scores(table([]), table(truth))["average_map"] == 0
    assert event_scores(table(predictions), table([]))["per_class"] == {}


def test_a_prediction_that_finds_its_favourite_taken_takes_the_next():
    """The first takes [0, 10], the second would like it too and takes [2, 12], the third finds nothing."""
    truth = [("v", "a", 0, 10), ("v", "a", 2, 12)]
    predictions = [("v", "a", 0, 10, 0.9), ("v", "a", 0, 11, 0.8), ("v", "a", 0, 10, 0.7)]
    scores = event_scores(table(predictions), table(truth))
    assert scores["map"]["0.6"] == 1.0
    assert event_scores(table(predictions[::2]), table(truth))["map"]["0.7"] == 0.5


def test_of_equal_scores_the_last_comes_first():
    truth = [("v", "a", 0, 10)]
    wrong, right = ("v", "a", 50, 60, 0.5), ("v", "a", 0, 10, 0.5)
    assert event_scores(table([wrong, right]), table(truth))["average_map"] == 1.0
    assert event_scores(table([right, wrong]), table(truth))["average_map"] == 0.5


def test_a_class_without_events_lowers_no_other():
    truth = [("v", "b", 0, 10), ("v", "c", 5, 9)]
    predictions = [("v", "b", 0, 10, 0.5), ("v", "c", 5, 9, 0.5)]
    strangers = [("v", label, 0, 10, 0.9) for label in ("a", "d", "0", "1", "1")]
    alone, together = (event_scores(table(rows), table(truth)) for rows in (predictions, strangers + predictions))
    assert alone["map"] == together["map"]
    assert together["per_class"] == alone["per_class"]
    assert together["classes_without_events"] == {"a": 1, "d": 1, "0": 1, "1": 2}
    assert (together["n_predictions"], together["n_classes"]) == (7, 2)


def test_what_does_not_count_is_counted():
    truth = [("v", "a", 0, 10), ("v", "a", 0.0005, 10.0009), ("v", "a", 5, 5), ("w", AMBIGUOUS, 0, 4), ("w", "a", 0, 4), ("x", "b", 0, 4)]
    predictions = [("v", "a", 0, 10, 0.9), ("v", "a", 0, 10, np.nan), ("v", "a", 0, np.inf, 0.9), ("y", "a", 0, 10, 0.95)]
    scores = event_scores(table(predictions), table(truth), "thumos")
    assert scores["dropped"] == {NOT_A_CLASS: 1, TOO_SHORT: 1, TWICE: 1, NOT_FINITE: 2}
    counted = {name: scores[f"n_{name}"] for name in ("predictions", "events", "videos", "dropped", "classes")}
    assert counted == {"predictions": 2, "events": 3, "videos": 3, "dropped": 5, "classes": 2}
    assert scores["per_class"]["a"]["ap"]["0.5"] == 0.25  # half of its events, after a false positive in another video
    assert event_scores(table(predictions), table(truth), "unav")["dropped"] == {TWICE: 1, NOT_FINITE: 2}


def test_unknown_protocols_and_columns_that_do_not_fit():
    with pytest.raises(UsageError, match="unknown protocol 'tal'"):
        event_scores(table([]), table([]), "tal")
    with pytest.raises(ValueError, match="2 videos"):
        EventTable.of(["v", "w"], ["a"], [[0, 1]])


@pytest.mark.real
def test_a_million_predictions_would_take_less_than_a_minute(real_data):
    """A quarter of them, on the events of UnAV-100, each moved a little: those that moved least have the highest scores."""
    truth = read_truth(real_data / "unav100" / "unav100_annotations.json", ("test",)).events
    random = np.random.default_rng(0)
    picks = random.integers(0, len(truth), 250_000)
    moved = random.normal(0, 0.2, (len(picks), 2)) * np.diff(truth.segment, axis=1)[picks]
    segments = np.sort(truth.segment[picks] + moved, axis=1)
    predictions = EventTable.of([truth.video[i] for i in picks], [truth.label[i] for i in picks], segments, -np.abs(moved).sum(axis=1))
    before = time.process_time()
    scores = event_scores(predictions, truth)
    assert time.process_time() - before < 15
    assert scores["n_predictions"] == 250_000
    assert list(scores["map"].values()) == sorted(scores["map"].values(), reverse=True)
    assert 0 < scores["map"]["0.9"] < scores["map"]["0.1"] < 1
