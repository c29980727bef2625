"""Recall of proposals against counting, one event and one number of proposals after the other."""

import numpy as np
import pytest

from tasks.core.data.segments.table import EventTable
from tasks.core.metrics.proposals import proposal_scores


def counted(proposals, truth):
    """AR@1..100 of {video: [(score, start, end)]} and {video: [(start, end)]}, in Python floats."""
    total = sum(map(len, proposals.values()))
    share = 100 * len(truth) / total
    kept = {}
    for video in truth:
        mine = sorted(enumerate(proposals.get(video, [])), key=lambda entry: (-entry[1][0], -entry[0]))
        kept[video] = [segment for _, (_, *segment) in mine[: min(int(len(mine) * share), len(mine))]]
    per_video = sum(map(len, kept.values())) / len(truth)
    curve = []
    for n in range(1, 101):
        recalls = []
        for threshold in np.linspace(0.5, 0.95, 10):
            hits = 0
            for video, events in truth.items():
                some = kept[video][: int(len(kept[video]) * (n / 100 * (100 / per_video)))] if per_video else []
                hits += sum(any(_tiou(event, segment) >= threshold for segment in some) for event in events)
            recalls.append(hits / sum(map(len, truth.values())))
        curve.append(sum(recalls) / len(recalls))
    return curve


def _tiou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (b[1] - b[0] + a[1] - a[0] - shared)


def table(videos, scored):
    rows = [(video, *row) for video, rows in videos.items() for row in rows]
    first = 2 if scored else 1
    return EventTable.of(
        [row[0] for row in rows],
        [""] * len(rows),
        [row[first : first + 2] for row in rows],
        [row[1] for row in rows] if scored else None,
    )


def world(seed, most):
    random = np.random.default_rng(seed)
    truth = {f"v{i}": [(s, s + random.uniform(1, 20)) for s in random.uniform(0, 60, random.integers(1, 6))] for i in range(4)}
    proposals = {}
    for video, events in [*list(truth.items())[1:], ("elsewhere", [(0.0, 9.0)])]:
        picks = [events[i] for i in random.integers(0, len(events), random.integers(1, most))]
        proposals[video] = [(round(random.random(), 1), s + random.normal(0, 1), e + 3 + random.normal(0, 1)) for s, e in picks]
    return proposals, truth


@pytest.mark.parametrize("most", [10, 100, 400])
@pytest.mark.parametrize("seed", range(3))
def test_equals_counting(seed, most):
    proposals, truth = world(seed, most)
    scores = proposal_scores(table(proposals, True), table(truth, False))
    expected = counted(proposals, truth)
    assert scores["curve"] == pytest.approx(expected, abs=1e-12)
    assert scores["average_recall"] == {str(n): pytest.approx(expected[n - 1]) for n in (1, 5, 10, 50, 100)}
    assert scores["auc"] == pytest.approx((sum(expected) - (expected[0] + expected[-1]) / 2) / 100)
    assert (scores["n_videos"], scores["n_events"]) == (4, sum(map(len, truth.values())))


def test_by_hand():
    """Two videos with one event each, 100 proposals per video, the right one is the 10th of the one and the 30th of the other."""
    wrong = [(0.5, 500.0, 600.0)] * 99
    proposals = {
        "v": [*wrong[9:], (0.8, 0.0, 10.0), *[(0.9, 500.0, 600.0)] * 9],
        "w": [*wrong[29:], (0.8, 5.0, 9.0), *[(0.9, 500.0, 600.0)] * 29],
    }
    scores = proposal_scores(table(proposals, True), table({"v": [(0.0, 10.0)], "w": [(5.0, 9.0)]}, False))
    assert scores["curve"] == [0.0] * 9 + [0.5] * 20 + [1.0] * 71


def test_no_proposals_or_none_that_can_be_used():
    truth = table({"v": [(0.0, 10.0)]}, False)
    assert proposal_scores(table({}, True), truth)["auc"] == 0
    scores = proposal_scores(table({"v": [(np.nan, 0.0, 10.0)], "w": [(0.5, 0.0, 10.0)]}, True), truth)
    assert (scores["auc"], scores["n_dropped"], scores["n_predictions"]) == (0, 1, 0)
