"""From scores to boundaries."""

import numpy as np
import pytest

from tasks.boundaries.config import MergeConfig
from tasks.boundaries.merge import merge
from tasks.boundaries.result import Scores


def scores(pairs: dict[float, float], fps: float = 10.0) -> Scores:
    """Time -> score."""
    t = np.array(list(pairs))
    return Scores(t, np.round(t * fps).astype(np.int64), np.array(list(pairs.values()), np.float32))


def times(found) -> list[float]:
    return [round(b.t, 6) for b in found]


def test_proposals_within_a_second_of_the_first_become_one():
    """Spec A10.9: 1.0, 1.4, 1.9, 3.5 s give two boundaries."""
    found = merge(scores({0.5: 0.1, 1.0: 0.9, 1.4: 0.9, 1.9: 0.9, 2.5: 0.2, 3.5: 0.6}), MergeConfig())
    assert times(found) == [pytest.approx(4.3 / 3), 3.5]
    assert [b.score for b in found] == pytest.approx([0.9, 0.6])


def test_the_window_counts_from_the_first_of_a_group():
    """1.0 and 2.0 belong together, 2.1 begins the next group although it is near 2.0."""
    given = scores({1.0: 0.8, 1.6: 0.8, 2.0: 0.8, 2.1: 0.8, 3.0: 0.8})
    assert times(merge(given, MergeConfig(pick="argmax"))) == [1.0, 2.1]


def test_nothing_above_the_threshold_gives_nothing():
    for rule in ("window", "runs"):
        assert merge(scores({1.0: 0.49, 2.0: 0.2}), MergeConfig(rule=rule)) == []
        assert merge(Scores(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.float32)), MergeConfig(rule=rule)) == []


def test_a_score_at_the_threshold_counts():
    assert times(merge(scores({1.0: 0.5}), MergeConfig(threshold=0.5))) == [1.0]


# proposals 1.0, 1.3 and 1.6 s with weights 1, 1 and 2
@pytest.mark.parametrize(("pick", "t", "frame"), [("mean", (1.0 + 1.3 + 2 * 1.6) / 4, 13), ("center", 1.3, 13), ("argmax", 1.6, 16)])
def test_picks(pick, t, frame):
    (found,) = merge(scores({1.0: 0.5, 1.3: 0.5, 1.6: 1.0, 1.7: 0.0, 1.9: 0.4}), MergeConfig(pick=pick))
    assert found.t == pytest.approx(t)
    assert found.frame == frame
    assert found.score == 1.0


def test_center_of_an_even_group_is_the_earlier_and_argmax_the_first_of_equals():
    given = scores({1.0: 0.7, 1.1: 0.9, 1.2: 0.9, 1.3: 0.7})
    assert times(merge(given, MergeConfig(pick="center"))) == [1.1]
    assert times(merge(given, MergeConfig(pick="argmax"))) == [1.1]


def test_runs_join_neighbouring_candidates_however_long():
    given = scores({0.0: 0.9, 0.3: 0.9, 0.6: 0.1, 0.9: 0.8, 1.2: 0.8, 1.5: 0.8, 1.8: 0.8, 2.1: 0.8})
    assert times(merge(given, MergeConfig(rule="runs", pick="center"))) == [0.0, 1.5]
    assert times(merge(given, MergeConfig(rule="window", pick="center"))) == [0.3, 1.5]


def test_the_frame_of_a_mean_lies_on_screen_at_its_time():
    given = Scores(np.array([1.0, 1.12, 1.24]), np.array([25, 28, 31]), np.array([0.5, 0.5, 0.6], np.float32))
    (found,) = merge(given, MergeConfig())
    assert found.t == pytest.approx((0.5 * 1.0 + 0.5 * 1.12 + 0.6 * 1.24) / 1.6)
    assert found.frame == int(found.t * 25)


def test_scores_of_zero_do_not_divide_by_zero():
    assert times(merge(scores({1.0: 0.0, 1.4: 0.0}), MergeConfig(threshold=0.0))) == [1.2]
