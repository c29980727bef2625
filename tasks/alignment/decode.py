"""From similarities to times: the span of each sentence, freely or in order."""

import numpy as np


def span_scores(similarity: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(K, T): mean similarity (K, T) over so many features (K,) from each on; -inf where they do not fit or were not seen."""
    sums = np.concatenate([np.zeros((len(similarity), 1)), np.nancumsum(similarity, 1)], 1)
    seen = np.concatenate([np.zeros((len(similarity), 1)), np.cumsum(np.isfinite(similarity), 1)], 1)
    size = similarity.shape[1]
    ends = np.minimum(np.arange(size) + lengths[:, None], size)
    begins = np.broadcast_to(np.arange(size), ends.shape)
    total, count = (np.take_along_axis(x, ends, 1) - np.take_along_axis(x, begins, 1) for x in (sums, seen))
    fits = (np.arange(size) + lengths[:, None] <= size) & (count > 0)
    return np.where(fits, total / np.maximum(count, 1), -np.inf)


def free(scores: np.ndarray) -> np.ndarray:
    """(K,) first features of the best spans, each sentence by itself."""
    return scores.argmax(1)


def in_order(scores: np.ndarray) -> np.ndarray:
    """(K,) first features that never go back, of those with the highest sum of scores (K, T)."""
    finite = np.where(np.isfinite(scores), scores, -1e6)
    best = np.zeros_like(finite)
    for k, row in enumerate(finite):
        best[k] = row + (np.maximum.accumulate(best[k - 1]) if k else 0)
    starts = np.empty(len(scores), np.int64)
    last = scores.shape[1]
    for k in range(len(scores) - 1, -1, -1):
        starts[k] = best[k, :last].argmax()
        last = starts[k] + 1
    return starts


def peaks(similarity: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(K,) the feature of the highest similarity within each span."""
    found = []
    for row, start, length in zip(similarity, starts, lengths, strict=True):
        part = np.nan_to_num(row[start : start + length], nan=-np.inf)
        found.append(start + int(part.argmax()))
    return np.array(found, np.int64)
