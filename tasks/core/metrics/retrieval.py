"""Ranks of what is right in a list ordered by similarity: recall at K and median rank, numpy in, plain numbers out.

Equal similarities have no order. What is right among them is as likely at each of their places, and every number here is the mean over
all these orders: a model that finds everything alike is at chance, and nothing depends on the order of a manifest.
"""

from collections.abc import Sequence

import numpy as np

KS = (1, 5, 10)
"""The K that papers on retrieval report."""
_ROWS = 1024  # queries compared at once


def recall_at(similarity: np.ndarray, truth: np.ndarray, ks: Sequence[int] = KS) -> dict[int, float]:
    """K -> share of queries with something right among the K most similar items, percent.

    Args:
        similarity: (Q, G), of every query with every item; the higher the more alike.
        truth: (Q,) integers, the right item of each query; or (Q, G) bool, of which every row has at least one.
        ks: numbers of items, at least 1.

    Raises:
        ValueError: the shapes do not fit, a query has nothing right, or a similarity is NaN.
    """
    ahead, tied, right = _places(similarity, truth)
    return {k: float(100 * _chance_within(k - ahead, tied, right).mean()) for k in ks}


def ranks(similarity: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(Q,) float64 ranks of the best right item, from 1; the mean over the orders of equal similarities. Arguments as `recall_at`."""
    ahead, tied, right = _places(similarity, truth)
    return ahead + 1 + tied / (right + 1)


def retrieval_scores(similarity: np.ndarray, truth: np.ndarray, ks: Sequence[int] = KS) -> dict[str, float]:
    """`r1`, `r5`, `r10` (percent), `median_rank` and `mean_rank`. Arguments as `recall_at`."""
    found, places = recall_at(similarity, truth, ks), ranks(similarity, truth)
    return {**{f"r{k}": share for k, share in found.items()}, "median_rank": float(np.median(places)), "mean_rank": float(places.mean())}


def text_video_scores(similarity: np.ndarray, video: np.ndarray, ks: Sequence[int] = KS) -> dict[str, dict[str, float]]:
    """Both directions: `text_to_video` and `video_to_text`, each as `retrieval_scores`.

    Args:
        similarity: (T, V), of every text with every video.
        video: (T,) integers, the video that each text is about; a video may have several texts, of which the best counts, and one
            without a text is no query.
        ks: numbers of items.
    """
    video = np.asarray(video)
    right = video[:, None] == np.arange(similarity.shape[1])
    told = right.any(0)
    return {
        "text_to_video": retrieval_scores(similarity, video, ks),
        "video_to_text": retrieval_scores(similarity.T[told], right.T[told], ks),
    }


def _places(similarity: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each query (Q,) float64: wrong items above its best right one, wrong and right items as similar as that one."""
    similarity, truth = np.asarray(similarity), np.asarray(truth)
    if similarity.ndim != 2 or not similarity.size or truth.shape not in (similarity.shape[:1], similarity.shape):
        raise ValueError(f"similarities of shape {similarity.shape} and a truth of shape {truth.shape}")
    parts = [_places_of(similarity[at : at + _ROWS], truth[at : at + _ROWS]) for at in range(0, len(similarity), _ROWS)]
    ahead, tied, right = np.concatenate(parts, axis=1)
    return ahead, tied, right


def _places_of(similarity: np.ndarray, truth: np.ndarray) -> np.ndarray:
    if np.isnan(similarity).any():
        raise ValueError("a similarity is NaN")
    right = truth if truth.ndim == 2 else truth[:, None] == np.arange(similarity.shape[1])
    if not right.any(1).all():
        raise ValueError("a query has nothing right among the items")
    best = np.where(right, similarity, -np.inf).max(1, keepdims=True)
    alike = similarity == best
    return np.stack([(similarity > best).sum(1), (alike & ~right).sum(1), (alike & right).sum(1)]).astype(np.float64)


def _chance_within(room: np.ndarray, tied: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Probability (Q,) that, of `tied` wrong and `right` right items in random order, a right one is among the first `room`."""
    total = tied + right
    places = np.clip(room, 0, total)
    missed = np.ones_like(total)
    for number in range(int(right.max())):  # the right items one after the other all fall behind
        counted = number < right
        missed[counted] *= np.clip((total - places - number)[counted], 0, None) / (total - number)[counted]
    return 1 - missed
