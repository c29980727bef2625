"""From scores of windows to moments, against picking them one after the other from a full list."""

import numpy as np
import pytest

from tasks.core.data.grid import Grid
from tasks.prompting.search.moments import Span, moments


def spans(lengths, stride=1.0, span=0.04):
    firsts = np.cumsum([0, *lengths[:-1]])
    return [Span(int(first), n, Grid(stride, span), float(n)) for first, n in zip(firsts, lengths, strict=True)]


def slow(scores, given, top, apart, one_each):
    """All windows in descending order, each compared with all moments before it."""
    found = []
    for place in sorted(range(len(scores)), key=lambda p: (-scores[p], p)):
        video = max(number for number, span in enumerate(given) if span.first <= place)
        own = scores[given[video].first : given[video].first + given[video].n]
        peak = place - given[video].first
        start, end = float(peak), float(peak + 1)
        if any(v == video and (one_each or (start <= b + apart and end >= a - apart)) for v, a, b, _ in found):
            continue
        level, low, high = np.median(scores) + 0.75 * (own[peak] - np.median(scores)), peak, peak
        while low > 0 and own[low - 1] > level:
            low -= 1
        while high + 1 < len(own) and own[high + 1] > level:
            high += 1
        found.append((video, float(low), float(high + 1), scores[place]))
        if len(found) == top:
            break
    return found


@pytest.mark.parametrize("one_each", [False, True])
@pytest.mark.parametrize("apart", [0.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_a_full_list(seed, apart, one_each):
    drawn = np.random.default_rng(seed)
    lengths = drawn.integers(1, 400, 6).tolist()
    scores = np.convolve(drawn.standard_normal(sum(lengths) + 4), np.ones(5) / 5, "valid").astype(np.float32)
    found = moments(scores, spans(lengths), 12, apart, one_each)
    wanted = slow(scores.tolist(), spans(lengths), 12, apart, one_each)
    assert [(m.video, m.start_s, m.end_s) for m in found] == [w[:3] for w in wanted]
    assert [m.score for m in found] == pytest.approx([w[3] for w in wanted])


def test_one_long_event_is_one_moment_and_another_video_comes_second():
    scores = np.zeros(200, np.float32)
    scores[20:60] = 0.9 + 0.001 * np.arange(40)
    scores[150] = 0.5
    first, second = moments(scores, spans([100, 100]), 2, 5.0)
    assert (first.video, first.start_s, first.end_s, first.at_s) == (0, 20.0, 60.0, pytest.approx(59.02))
    assert (second.video, second.start_s, second.end_s) == (1, 50.0, 51.0)


def test_hundreds_of_windows_of_one_event_do_not_keep_the_others_out():
    scores = np.full(5000, 0.8, np.float32)
    scores[:2500] += 0.1
    scores[4000] = 0.85
    found = moments(scores, spans([3000, 2000]), 2, 5.0)
    assert [(m.video, m.at_s) for m in found] == [(0, pytest.approx(0.02)), (1, pytest.approx(1000.02))]


def test_the_end_of_the_video_ends_a_moment_and_windows_hold_until_the_next():
    given = [Span(0, 3, Grid(2.0, 0.04, 0.5), 5.1)]
    (found,) = moments(np.array([0.0, 0.1, 0.9], np.float32), given, 1, 1.0)
    assert (found.start_s, found.end_s, found.at_s) == (4.5, 5.1, pytest.approx(4.52))
    long = [Span(0, 3, Grid(2.0, 3.0), 20.0)]
    (found,) = moments(np.array([0.0, 0.9, 0.1], np.float32), long, 1, 1.0)
    assert (found.start_s, found.end_s, found.at_s) == (2.0, 5.0, 3.5)


def test_windows_that_are_left_out_are_never_found():
    scores = np.array([-np.inf, 0.2, -np.inf, -np.inf], np.float32)
    (found,) = moments(scores, spans([3, 1]), 5, 0.0)
    assert (found.video, found.start_s) == (0, 1.0)
    assert moments(np.full(3, -np.inf, np.float32), spans([3]), 5, 0.0) == []


def test_of_equal_scores_the_first_comes_first():
    found = moments(np.zeros(300, np.float32), spans([100, 100, 100]), 3, 1e9)
    assert [m.video for m in found] == [0, 1, 2]
