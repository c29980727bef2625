"""Measures of aligning sentences, or the actions of a list, with a video.

Sources: Temporal Alignment Networks (Han et al., CVPR 2022, section 5) and its public code: pointing game and ROC-AUC of HTM-Align; weakly
supervised action alignment on Breakfast (Ding and Xu, CVPR 2018, section 4): frame accuracy, IoU and IoD of segments.
"""

import math
from collections.abc import Sequence

import numpy as np

from tasks.core.metrics.anomalies import auc

Span = tuple[float, float]


def is_hit(t: float, span: Span) -> bool:
    """Whether a moment lies in a sentence's span, seconds: from its start rounded down to its end rounded up, both included."""
    return math.floor(span[0]) <= t <= math.ceil(span[1])


def pointing_scores(moments: Sequence[float | None], scores: Sequence[float], flags: Sequence[int], spans: Sequence[Span]) -> dict:
    """The pointing game over alignable sentences, and how well scores tell them from the others.

    Args:
        moments: of each sentence the second that was found; None: nothing was, which is a miss.
        scores: how alignable each is, the higher the more.
        flags: 1: alignable, 0: not.
        spans: true start and end of each, seconds; those of flag 0 are not looked at.

    Returns:
        `r_at_1` and `auc`, fractions, None where there is nothing to measure on; `n_sentences`, `n_alignable`.

    Raises:
        InputError: a score is not finite.
    """
    hits = [moment is not None and is_hit(moment, span) for moment, flag, span in zip(moments, flags, spans, strict=True) if flag]
    area = auc(np.asarray(scores, np.float64), np.asarray(flags, np.int64))
    return {"r_at_1": float(np.mean(hits)) if hits else None, "auc": area, "n_sentences": len(spans), "n_alignable": len(hits)}


def segment_scores(found: Sequence[Sequence[Span]], truth: Sequence[Sequence[Span]], labels: Sequence[Sequence[str]]) -> dict[str, float]:
    """Of videos whose actions are known in order and were given times.

    Time is continuous: on whole frames it gives what counting frames gives.

    Args:
        found: of each video the span of each action, seconds, disjoint.
        truth: the annotated ones, disjoint, in the same order.
        labels: names of the actions; a moment is right where the name is, even if it is another action of this name.

    Returns:
        fractions: `f_acc`, right time over annotated time of all videos; `iou` and `iod`, means over all actions of intersection over union
        and over what was found (0 where nothing was); `n_videos`, `n_segments`.
    """
    right = total = 0.0
    ious, iods = [], []
    for own, true, names in zip(found, truth, labels, strict=True):
        shared = np.array([[_overlap(a, b) for b in true] for a in own]).reshape(len(own), len(true))
        right += float(sum(shared[i, j] for i, a in enumerate(names) for j, b in enumerate(names) if a == b))
        total += sum(end - start for start, end in true)
        for place, (a, b) in enumerate(zip(own, true, strict=True)):
            common, length = shared[place, place], a[1] - a[0]
            union = length + b[1] - b[0] - common
            ious.append(common / union if union > 0 else 0.0)
            iods.append(common / length if length > 0 else 0.0)
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in (("iou", ious), ("iod", iods))}
    return {"f_acc": right / total if total else 0.0, **means, "n_videos": len(truth), "n_segments": len(ious)}


def dtw_path(similarity: np.ndarray) -> np.ndarray:
    """The most similar way through a list of actions in order: every moment is of one action, every action has one at least.

    Args:
        similarity: (K, T), actions in order against moments; K <= T.

    Returns:
        (T,) int64, number of the action, from 0 to K - 1, never falling.

    Raises:
        ValueError: there are more actions than moments, or none.
    """
    similarity = _checked(similarity)
    actions, moments = similarity.shape
    best = np.full((actions, moments), -np.inf)
    best[0] = np.cumsum(similarity[0])
    advanced = np.zeros((actions, moments), bool)
    for t in range(1, moments):
        advanced[1:, t] = best[:-1, t - 1] > best[1:, t - 1]
        best[1:, t] = similarity[1:, t] + np.maximum(best[1:, t - 1], best[:-1, t - 1])
    path = np.empty(moments, np.int64)
    at = actions - 1
    for t in range(moments - 1, -1, -1):
        path[t] = at
        at -= int(advanced[at, t])
    return path


def soft_dtw_path(similarity: np.ndarray, gamma: float = 0.1) -> np.ndarray:
    """As `dtw_path`, of all ways at once: each moment goes to the action that it most probably is, ways weighing exp(similarity / gamma).

    These shares are the gradient of soft-DTW (Cuturi and Blondel, ICML 2017, algorithm 2) with respect to the similarities.

    Returns:
        (T,) int64, never falling.
    """
    forward, backward = (_soft_sums(part, gamma) for part in (_checked(similarity), similarity[::-1, ::-1]))
    shares = forward + backward[::-1, ::-1] - np.asarray(similarity, np.float64) / gamma
    return np.maximum.accumulate(shares.argmax(0))


def segments_of(path: np.ndarray, actions: int, edges: np.ndarray) -> list[Span]:
    """Start and end of each action of a path, seconds; (0, 0) of one that no moment is of.

    Args:
        path: (T,) never falling.
        actions: how many there are.
        edges: (T + 1,) where moments begin, and the last ends, seconds.
    """
    found = []
    for action in range(actions):
        own = np.flatnonzero(path == action)
        found.append((float(edges[own[0]]), float(edges[own[-1] + 1])) if len(own) else (0.0, 0.0))
    return found


def _overlap(a: Span, b: Span) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def _checked(similarity: np.ndarray) -> np.ndarray:
    similarity = np.asarray(similarity, np.float64)
    if similarity.ndim != 2 or not 1 <= similarity.shape[0] <= similarity.shape[1]:
        raise ValueError(f"similarities of shape {similarity.shape}: each of the actions needs a moment")
    return similarity


def _soft_sums(similarity: np.ndarray, gamma: float) -> np.ndarray:
    """(K, T) logarithm of the sum over all ways from the first action at the first moment to each place."""
    scaled = np.asarray(similarity, np.float64) / gamma
    sums = np.full(scaled.shape, -np.inf)
    sums[0, 0] = scaled[0, 0]
    for t in range(1, scaled.shape[1]):
        before = np.concatenate([[-np.inf], sums[:-1, t - 1]])
        sums[:, t] = scaled[:, t] + np.logaddexp(sums[:, t - 1], before)
    return sums
