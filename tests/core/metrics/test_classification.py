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
