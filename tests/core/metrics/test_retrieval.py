"""Ranks against enumeration of all orders of equal similarities, and hand-made lists."""

from itertools import permutations

import numpy as np
import pytest

from tasks.core.metrics.retrieval import ranks, recall_at, retrieval_scores, text_video_scores


def enumerated(similarity: np.ndarray, right: np.ndarray, ks: tuple[int, ...]) -> tuple[dict[int, float], np.ndarray]:
    """Recall and ranks as means over every order of the items that respects their similarities."""
    places = []
    for row, good in zip(similarity, right, strict=True):
        orders = [order for order in permutations(range(len(row))) if (np.diff(row[list(order)]) <= 0).all()]
        places.append([1 + min(order.index(item) for item in np.flatnonzero(good)) for order in orders])
    recall = {k: 100 * float(np.mean([np.mean([place <= k for place in of]) for of in places])) for k in ks}
    return recall, np.array([np.mean(of) for of in places])


@pytest.mark.parametrize("levels", [2, 3, 100])
@pytest.mark.parametrize("several", [False, True])
def test_ties_are_the_mean_over_all_orders(levels, several):
    draws = np.random.default_rng(levels + several)
    similarity = draws.integers(0, levels, (12, 5)).astype(np.float32)
    truth = draws.integers(0, 5, 12)
    right = truth[:, None] == np.arange(5)
    if several:
        right |= draws.random((12, 5)) < 0.3
    recall, places = enumerated(similarity, right, (1, 2, 3, 5))
    given = right if several else truth
    assert recall_at(similarity, given, (1, 2, 3, 5)) == pytest.approx(recall)
    np.testing.assert_allclose(ranks(similarity, given), places)


def test_identity_and_its_reverse():
    eye = np.eye(20)
    assert retrieval_scores(eye, np.arange(20)) == {"r1": 100, "r5": 100, "r10": 100, "median_rank": 1, "mean_rank": 1}
    last = -np.eye(20)
    assert retrieval_scores(last, np.arange(20)) == {"r1": 0, "r5": 0, "r10": 0, "median_rank": 20, "mean_rank": 20}


def test_a_hand_made_list():
    similarity = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.3], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    assert ranks(similarity, np.array([0, 1, 2, 1])).tolist() == [1, 3, 1, 2]
    assert recall_at(similarity, np.array([0, 1, 2, 1]), (1, 2, 3, 50)) == {1: 50, 2: 75, 3: 100, 50: 100}
    assert retrieval_scores(similarity, np.array([0, 1, 2, 1]))["median_rank"] == 1.5


def test_a_constant_similarity_is_chance():
    found = text_video_scores(np.full((200, 100), 0.3), np.arange(200) // 2)
    assert found["text_to_video"] == pytest.approx({"r1": 1, "r5": 5, "r10": 10, "median_rank": 50.5, "mean_rank": 50.5})
    assert found["video_to_text"]["r1"] == pytest.approx(1)
    assert found["video_to_text"]["r5"] == pytest.approx(100 * (1 - 195 / 200 * 194 / 199))


def test_directions_are_told_apart():
    similarity = np.array([[0.9, 0.8], [0.7, 0.1]])  # both texts find the first video, both videos the first text
    found = text_video_scores(np.array([[0.9, 0.8], [0.2, 0.1]]), np.array([0, 1]), (1, 2))
    assert (found["text_to_video"]["r1"], found["video_to_text"]["r1"]) == (50, 50)
    asymmetric = np.array([[0.9, 0.95], [0.1, 0.96]])  # the first text prefers the second video; each video finds its text
    found = text_video_scores(asymmetric, np.array([0, 1]), (1, 2))
    assert (found["text_to_video"]["r1"], found["video_to_text"]["r1"]) == (50, 100)
    assert text_video_scores(similarity, np.array([1, 0]), (1,))["text_to_video"]["r1"] == 50


def test_several_texts_and_none():
    similarity = np.array([[0.9, 0.1, 0.99], [0.1, 0.2, 0.3], [0.4, 0.7, 0.1]])
    found = text_video_scores(similarity, np.array([0, 0, 1]), (1,))
    assert found["text_to_video"]["mean_rank"] == pytest.approx((2 + 3 + 1) / 3)
    assert found["video_to_text"]["mean_rank"] == 1  # of two videos; the third has no text


def test_many_queries_are_compared_in_parts():
    draws = np.random.default_rng(0)
    similarity = draws.standard_normal((2500, 7))
    truth = draws.integers(0, 7, 2500)
    expected = [1 + int((row > row[right]).sum()) for row, right in zip(similarity, truth, strict=True)]
    assert ranks(similarity, truth).tolist() == expected


@pytest.mark.parametrize(
    ("similarity", "truth", "said"),
    [
        ([[0.1, float("nan")]], [0], "NaN"),
        ([[0.1, 0.2]], [2], "nothing right"),
        ([[0.1, 0.2]], [[False, False]], "nothing right"),
        ([[0.1, 0.2]], [0, 1], "shape"),
        (np.zeros((0, 3)), [], "shape"),
    ],
)
def test_what_has_no_rank(similarity, truth, said):
    with pytest.raises(ValueError, match=said):
        ranks(np.array(similarity), np.array(truth))
