"""Metrics against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from tasks.core.metrics import classification as metrics

RNG = np.random.default_rng(0)
SCORES, LABELS = RNG.random((60, 7)), RNG.integers(0, 7, 60)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_agrees_with_scikit_learn(k):
    assert metrics.topk_accuracy(SCORES, LABELS, k) == pytest.approx(100 * top_k_accuracy_score(LABELS, SCORES, k=k, labels=range(7)))


def test_confusion_and_mean_class_agree_with_scikit_learn():
    predicted = SCORES.argmax(1)
    matrix = metrics.confusion_matrix(predicted, LABELS, 7)
    assert np.array_equal(matrix, confusion_matrix(LABELS, predicted, labels=range(7)))
    assert metrics.mean_class_accuracy(matrix) == pytest.approx(100 * balanced_accuracy_score(LABELS, predicted))


def test_more_ranks_than_classes_is_everything():
    assert metrics.topk_accuracy(SCORES[:, :3], LABELS % 3, 5) == 100


def test_recall_and_knn_by_hand():
    similarity = np.array([[0.9, 0.8, 0.1], [0.2, 0.3, 0.9]])
    gallery, queries = np.array([0, 1, 1]), np.array([1, 0])
    assert metrics.recall_at(similarity, queries, gallery, 1) == 0
    assert metrics.recall_at(similarity, queries, gallery, 2) == 50
    assert metrics.recall_at(similarity, queries, gallery, 9) == 100
    scores = metrics.knn_scores(similarity, gallery, 2, 3, temperature=1.0)
    expected = np.exp([0.9, 0.8, 0.1])
    assert scores[0, 1] / scores[0, 0] == pytest.approx((expected[1] + expected[2]) / expected[0])


SIX = np.array(  # every item's similarity to six of the gallery
    [
        [0.9, 0.1, 0.8, 0.3, 0.2, 0.0],
        [0.0, 0.2, 0.9, 0.8, 0.7, 0.1],
        [0.3, 0.4, 0.5, 0.6, 0.1, 0.2],
        [0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
    ]
)


def test_recall_of_six_items_by_hand():
    """Ranks of the first item of the own class: 1, 2, 4 and 6."""
    queries, gallery = np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1, 2, 2])
    gallery_of_third = np.array([2, 1, 1, 0, 1, 1])
    recall = {k: metrics.recall_at(SIX[:2], queries[:2], gallery, k) for k in (1, 2)}
    assert recall == {1: 50, 2: 100}
    ranks = [metrics.recall_at(SIX[2:3], queries[2:3], gallery_of_third, k) for k in range(1, 7)]
    assert ranks == [0, 0, 0, 100, 100, 100]
    ranks = [metrics.recall_at(SIX[3:], queries[3:], np.array([0, 1, 0, 1, 0, 2]), k) for k in range(1, 7)]
    assert ranks == [0, 0, 0, 0, 0, 100]


def test_recall_rises_with_k_and_is_chance_where_labels_are_shuffled():
    labels = np.arange(400) % 10
    features = np.eye(10)[labels] + 0.3 * RNG.standard_normal((400, 10))
    similarity = features[:200] @ features[200:].T
    recalls = [metrics.recall_at(similarity, labels[:200], labels[200:], k) for k in (1, 5, 10, 20)]
    assert recalls == sorted(recalls)
    assert recalls[0] > 60
    shuffled = [metrics.recall_at(similarity, labels[:200], RNG.permutation(labels[200:]), 1) for _ in range(20)]
    assert np.mean(shuffled) == pytest.approx(10, abs=3)
