"""Hand-made similarities with known answers."""

import numpy as np
import pytest

from tasks.contrastive.pair_metrics import alignment, chance, retrieval
from tasks.core.metrics.retrieval import recall_at


def test_recall_by_hand():
    similarity = np.array([[0.9, 0.1, 0.5], [0.8, 0.7, 0.6], [0.3, 0.2, 0.1]])
    own = np.eye(3, dtype=bool)
    assert recall_at(similarity, own, (1,))[1] == pytest.approx(100 / 3)
    assert recall_at(similarity, own, (2,))[2] == pytest.approx(200 / 3)
    assert recall_at(similarity, own, (3,))[3] == 100
    assert recall_at(similarity.T, own, (1,))[1] == pytest.approx(200 / 3)


def test_clips_of_one_sentence_are_all_right_for_it():
    """Three clips of two sentences: clip 1 is most similar to sentence 1, which is that of clip 2 alone."""
    similarity = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.7]])
    found = retrieval(similarity, np.array([0, 0, 1]))
    assert found["v2t_r1"] == pytest.approx(200 / 3)
    assert found["t2v_r1"] == 50  # clip 1 is first for sentence 1
    assert found["v2t_r5"] == found["t2v_r5"] == 100
    assert found["chance_v2t_r1"] == 50
    assert found["chance_t2v_r1"] == pytest.approx((2 / 3 + 1 / 3) / 2 * 100)


def test_chance_is_the_mean_over_all_rankings():
    matching = np.zeros((2, 6), bool)
    matching[0, :2] = matching[1, 5] = True
    draws = np.random.default_rng(0)
    tried = np.mean([recall_at(draws.random((2, 6)), matching, (2,))[2] for _ in range(4000)])
    assert chance(matching, 2) == pytest.approx(tried, abs=1.5)
    assert chance(matching, 9) == 100


def test_sentences_dealt_to_other_clips_are_found_by_chance():
    n = 200
    found = retrieval(np.eye(n), np.arange(n))
    assert (found["v2t_r1"], found["t2v_r1"]) == (100, 100)
    assert found["shuffled_v2t_r1"] <= 2
    assert found["shuffled_t2v_r1"] <= 2


def test_a_sentence_is_right_from_the_floor_of_its_start_to_the_ceiling_of_its_end():
    def hit(second: int, part: tuple[float, float]) -> float:
        return alignment([np.eye(10)[[second]]], [np.array([part])])["align_r1"]

    inside = [second for second in range(10) if hit(second, (2.7, 4.2)) == 100]
    assert inside == [2, 3, 4, 5]
    assert [second for second in range(10) if hit(second, (3.0, 4.0)) == 100] == [3, 4]
    found = alignment([np.eye(10)[[2, 9]], np.eye(4)[[1]]], [np.array([(2.7, 4.2), (0.0, 1.0)]), np.array([(1.0, 1.5)])])
    assert found == {"align_r1": pytest.approx(200 / 3), "align_chance": pytest.approx(100 * (0.4 + 0.2 + 0.5) / 3), "align_n": 3}


def test_sentences_that_are_all_alike_are_at_chance():
    found = retrieval(np.zeros((6, 6)), np.arange(6))
    for direction in ("v2t", "t2v"):
        assert found[f"{direction}_r1"] == pytest.approx(found[f"chance_{direction}_r1"]) == pytest.approx(100 / 6)
