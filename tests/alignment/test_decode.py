"""From similarities to times."""

import itertools

import numpy as np

from tasks.alignment.decode import free, in_order, peaks, span_scores
from tasks.alignment.learned import starts


def test_a_planted_bump_is_found_exactly():
    rng = np.random.default_rng(0)
    similarity = rng.uniform(0, 0.5, (3, 60))
    for row, (begin, length) in zip(similarity, [(10, 4), (56, 4), (0, 7)], strict=True):
        row[begin : begin + length] += 1
    lengths = np.array([4, 4, 7])
    found = free(span_scores(similarity, lengths))
    assert found.tolist() == [10, 56, 0]
    at = peaks(similarity, found, lengths)
    assert [similarity[k, t] == similarity[k, s : s + n].max() for k, (t, s, n) in enumerate(zip(at, found, lengths, strict=True))] == [
        True
    ] * 3


def test_means_are_over_what_was_seen():
    scores = span_scores(np.array([[np.nan, 1.0, 3.0, np.nan]]), np.array([2]))
    np.testing.assert_array_equal(scores, [[1.0, 2.0, 3.0, -np.inf]])


def test_in_order_is_the_best_of_all_orders():
    for seed in range(10):
        scores = np.random.default_rng(seed).standard_normal((3, 6))
        ways = [way for way in itertools.product(range(6), repeat=3) if way[0] <= way[1] <= way[2]]
        best = max(ways, key=lambda way: sum(scores[k, t] for k, t in enumerate(way)))
        assert tuple(in_order(scores)) == best


def test_windows_cover_everything():
    for length, window in ((10, 64), (64, 64), (65, 64), (300, 64), (7, 2)):
        found = starts(length, window)
        covered = {t for start in found for t in range(start, min(start + window, length))}
        assert covered == set(range(length))
        assert found[-1] + min(window, length) == length
