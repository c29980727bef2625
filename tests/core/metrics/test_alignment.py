"""Pointing game and AUC, segments of actions, ways through a list of actions: by hand, by brute force, by an independent rank sum."""

import itertools

import numpy as np
import pytest
from scipy.stats import rankdata

from tasks.core.errors import InputError
from tasks.core.metrics.alignment import dtw_path, is_hit, pointing_scores, segment_scores, segments_of, soft_dtw_path


@pytest.mark.parametrize(
    ("t", "hit"), [(9.99, False), (10, True), (10.7, True), (18, True), (18.01, False), (17.5, True)], ids=lambda value: str(value)
)
def test_a_moment_lies_between_the_start_rounded_down_and_the_end_rounded_up(t, hit):
    assert is_hit(t, (10.739, 17.535)) is hit


def test_whole_seconds_are_not_widened():
    assert [is_hit(t, (10, 12)) for t in (9.5, 10, 12, 12.5)] == [False, True, True, False]


def test_recall_is_over_alignable_sentences_and_a_missing_one_is_a_miss():
    scores = pointing_scores([3.0, 3.0, None, 50.0], [0.9, 0.2, 0.5, 0.1], [1, 1, 1, 0], [(2, 4), (7, 9), (1, 2), (0, 99)])
    assert scores == {"r_at_1": pytest.approx(1 / 3), "auc": 1.0, "n_sentences": 4, "n_alignable": 3}


def test_auc_is_the_rank_sum_with_ties():
    rng = np.random.default_rng(0)
    scores, flags = rng.integers(0, 12, 200).astype(float), rng.integers(0, 2, 200)
    positive = flags.sum()
    expected = (rankdata(scores)[flags == 1].sum() - positive * (positive + 1) / 2) / positive / (200 - positive)
    assert pointing_scores([None] * 200, scores, flags, [(0, 1)] * 200)["auc"] == pytest.approx(expected, abs=1e-12)


def test_nothing_to_measure_on():
    assert pointing_scores([1.0], [0.5], [0], [(0, 1)]) == {"r_at_1": None, "auc": None, "n_sentences": 1, "n_alignable": 0}
    with pytest.raises(InputError, match="finite"):
        pointing_scores([1.0, 1.0], [np.nan, 0], [1, 0], [(0, 1)] * 2)


def test_segments_by_hand():
    """Pour 0-4, stir 4-10; found with the boundary at 6: right 4 + 4 of 10."""
    scores = segment_scores([[(0, 6), (6, 10)]], [[(0, 4), (4, 10)]], [["pour", "stir"]])
    assert scores["f_acc"] == pytest.approx(0.8)
    assert scores["iou"] == pytest.approx((4 / 6 + 4 / 6) / 2)
    assert scores["iod"] == pytest.approx((4 / 6 + 1) / 2)


def test_another_action_of_the_same_name_is_right_in_its_frames_only():
    scores = segment_scores([[(0, 1), (1, 5), (5, 6)]], [[(0, 3), (3, 4), (4, 6)]], [["a", "b", "a"]])
    assert scores["f_acc"] == pytest.approx((1 + 1 + 1) / 6)
    scores = segment_scores([[(0, 1), (1, 2), (2, 6)]], [[(0, 3), (3, 4), (4, 6)]], [["a", "b", "a"]])
    assert scores["f_acc"] == pytest.approx((1 + 1 + 2) / 6)


def test_on_whole_frames_it_is_what_counting_frames_gives():
    rng = np.random.default_rng(1)
    labels = ["a", "b", "a", "c"]
    cuts = [np.concatenate([[0], np.sort(rng.choice(np.arange(1, 40), 3, replace=False)), [40]]) for _ in range(2)]
    found, truth = ([(float(a), float(b)) for a, b in itertools.pairwise(cut)] for cut in cuts)
    frames = [np.repeat(labels, np.diff(cut)) for cut in cuts]
    assert segment_scores([found], [truth], [labels])["f_acc"] == pytest.approx((frames[0] == frames[1]).mean())


def test_what_was_not_found_counts_nothing():
    scores = segment_scores([[(0, 0), (0, 0)]], [[(0, 2), (2, 4)]], [["a", "b"]])
    assert (scores["f_acc"], scores["iou"], scores["iod"]) == (0, 0, 0)


def ways(actions: int, moments: int):
    """Every way through the actions in order."""
    for cut in itertools.combinations(range(1, moments), actions - 1):
        yield np.repeat(np.arange(actions), np.diff([0, *cut, moments]))


@pytest.mark.parametrize("decode", [dtw_path, lambda s: soft_dtw_path(s, 0.02)])
def test_a_staircase_gives_its_boundaries(decode):
    path = np.repeat(np.arange(4), [3, 1, 7, 5])
    similarity = np.eye(4)[:, path] + np.random.default_rng(0).uniform(-0.3, 0.3, (4, 16))
    assert decode(similarity).tolist() == path.tolist()
    assert segments_of(path, 4, 2 + 0.5 * np.arange(17)) == [(2, 3.5), (3.5, 4), (4, 7.5), (7.5, 10)]


def test_the_best_of_all_ways():
    for seed in range(20):
        similarity = np.random.default_rng(seed).standard_normal((3, 7))
        sums = {tuple(way): similarity[way, np.arange(7)].sum() for way in ways(3, 7)}
        assert tuple(dtw_path(similarity)) == max(sums, key=sums.get)


def test_soft_ways_are_the_mean_over_all_ways():
    similarity = np.random.default_rng(3).standard_normal((3, 6))
    shares = np.zeros((3, 6))
    for way in ways(3, 6):
        shares[way, np.arange(6)] += np.exp(similarity[way, np.arange(6)].sum() / 0.7)
    assert soft_dtw_path(similarity, 0.7).tolist() == np.maximum.accumulate(shares.argmax(0)).tolist()


def test_more_actions_than_moments():
    with pytest.raises(ValueError, match="needs a moment"):
        dtw_path(np.zeros((3, 2)))
