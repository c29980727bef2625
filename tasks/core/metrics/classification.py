"""Top-k accuracy, mean class accuracy, confusion matrix, retrieval recall: numpy in, plain numbers out."""

import numpy as np


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of rows of `scores` `(n, classes)` whose label `(n,)` is among the k largest; ties count in favour of the lower class
    number, percent.
    """
    k = min(k, scores.shape[1])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((order == labels[:, None]).any(1).mean() * 100)


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """`(n_classes, n_classes)` int64 counts, rows the truth, columns the prediction."""
    matrix = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def mean_class_accuracy(matrix: np.ndarray) -> float:
    """Mean over the classes that occur of each class' share of right predictions, percent."""
    totals = matrix.sum(1)
    seen = totals > 0
    return float((np.diag(matrix)[seen] / totals[seen]).mean() * 100)


def recall_at(similarity: np.ndarray, query_labels: np.ndarray, gallery_labels: np.ndarray, k: int) -> float:
    """Share of queries with an item of their class among the k most similar of the gallery, percent. `similarity` `(queries, gallery)`."""
    k = min(k, similarity.shape[1])
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    return float((gallery_labels[nearest] == query_labels[:, None]).any(1).mean() * 100)


def knn_scores(similarity: np.ndarray, gallery_labels: np.ndarray, n_classes: int, k: int, temperature: float = 0.07) -> np.ndarray:
    """Class scores `(queries, n_classes)` by weighted vote of the k nearest, weight exp(similarity / temperature) (Wu et al. 2018,
    section 3.4).
    """
    k = min(k, similarity.shape[1])
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    close = np.take_along_axis(similarity, nearest, axis=1)
    votes = np.exp((close - close.max(1, keepdims=True)) / temperature)
    scores = np.zeros((len(similarity), n_classes))
    for column in range(k):
        scores[np.arange(len(scores)), gallery_labels[nearest[:, column]]] += votes[:, column]
    return scores


def summarize(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`top1`, `top5`, `mean_class` in percent of `(n, classes)` scores."""
    matrix = confusion_matrix(scores.argmax(1), labels, scores.shape[1])
    return {"top1": topk_accuracy(scores, labels, 1), "top5": topk_accuracy(scores, labels, 5), "mean_class": mean_class_accuracy(matrix)}
