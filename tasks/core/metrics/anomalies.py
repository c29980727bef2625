"""Frame-level measures of video anomaly detection: micro and macro AUC, equal error rate, average precision, and what is done to scores.

Higher scores are more anomalous, label 1 is an anomalous frame. Every measure equals scikit-learn's on the same vectors. Smoothing and
normalisation change the numbers that a paper can claim: they are named options, off by default, applied per video, smoothing first.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tasks.core.errors import InputError, UsageError

PROTOCOLS = ("micro-auc", "macro-auc")
NORMALIZATIONS = ("none", "per_video_minmax")
_REACH = 4.0  # standard deviations beyond which the Gaussian is cut off


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve: the share of pairs (anomalous, normal) in the right order, equal scores counting half.

    Args:
        scores: (n,) finite.
        labels: (n,) 0 or 1.

    Returns:
        in [0, 1]; None where one of the classes is empty.

    Raises:
        InputError: a score is not finite, a label is neither 0 nor 1.
        ValueError: lengths differ.
    """
    hits, alarms = _counts(scores, labels)
    pairs = int(hits[-1]) * int(alarms[-1])
    return float((np.diff(alarms) * (hits[1:] + hits[:-1])).sum() / 2 / pairs) if pairs else None


def roc(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve: shares of normal and of anomalous frames at or above each distinct score, from (0, 0) to (1, 1).

    Arguments and errors as `auc`, which is the area under it.

    Returns:
        two (k + 1,) float64 arrays; nan where there are no frames of a class.
    """
    hits, alarms = _counts(scores, labels)
    with np.errstate(invalid="ignore"):
        return alarms / alarms[-1], hits / hits[-1]


def micro_auc(scores: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float | None:
    """The AUC of all frames of all videos together, the headline of the field; see `auc`.

    Args:
        scores, labels: per video (n_i,).
    """
    return auc(np.concatenate([*scores, []]), np.concatenate([*labels, []]))


def macro_auc(scores: Sequence[np.ndarray], labels: Sequence[np.ndarray], one_class: Literal["pad", "skip"] = "pad") -> float | None:
    """The mean of the AUCs of the videos, each weighing the same.

    A video whose frames are all of one class has no AUC of its own:

    - `pad` does what the public script of UBnormal (Acsintoae et al., CVPR 2022) does to *every* video: one normal frame that scores 0
      and one anomalous frame that scores 1 are added. A wholly anomalous or wholly normal video then scores near 1 whatever its scores.
    - `skip` leaves such videos out.

    Args:
        scores, labels: per video (n_i,); with `pad` scores lie in [0, 1].

    Returns:
        None where no video counts.

    Raises:
        InputError: with `pad`, a score outside [0, 1].
    """
    if one_class == "pad":
        low, high = min((s.min() for s in scores if len(s)), default=0), max((s.max() for s in scores if len(s)), default=0)
        if low < 0 or high > 1:
            hint = "--normalize per_video_minmax brings them there; --one-class skip needs no added frames"
            raise InputError(f"macro-auc adds frames that score 0 and 1, but scores reach from {low:g} to {high:g}", hint)
        scores = [np.concatenate([[0.0], s, [1.0]]) for s in scores]
        labels = [np.concatenate([[0], y, [1]]) for y in labels]
    found = [value for value in map(auc, scores, labels) if value is not None]
    return float(np.mean(found)) if found else None


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the precision-recall curve as steps (no interpolation); None without an anomalous frame. Arguments as `auc`."""
    hits, alarms = _counts(scores, labels)
    if not hits[-1]:
        return None
    return float((np.diff(hits) / hits[-1] * (hits[1:] / (hits[1:] + alarms[1:]))).sum())


def equal_error_rate(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Where the share of normal frames flagged equals the share of anomalous frames missed, on the straight lines between thresholds.

    Arguments and returns as `auc`.
    """
    hits, alarms = _counts(scores, labels)
    if not hits[-1] or not alarms[-1]:
        return None
    flagged, missed = alarms / alarms[-1], 1 - hits / hits[-1]
    gap = flagged - missed  # grows from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(flagged[after - 1] + share * (flagged[after] - flagged[after - 1]))


def smoothed(scores: np.ndarray, positions: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing of one video: at every frame the weighted mean of the frames around it, cut off at 4 sigma.

    Frames that do not exist (before the first, after the last, in gaps) have no weight, so that a constant stays what it is, and
    frames that stand unevenly in time are weighed by their distance. Away from the edges evenly spaced scores come out as
    `scipy.ndimage.gaussian_filter1d` makes them.

    Args:
        scores: (n,).
        positions: (n,) increasing, frame numbers or seconds.
        sigma: in the same unit, > 0.

    Returns:
        (n,) float64.
    """
    total = np.asarray(scores, dtype=np.float64).copy()
    weight = np.ones(len(total))
    reach = np.searchsorted(positions, positions + _REACH * sigma, side="right") - np.arange(len(total)) - 1
    for step in range(1, int(reach.max(initial=0)) + 1):
        distance = (positions[step:] - positions[:-step]) / sigma
        near = np.where(distance <= _REACH, np.exp(-0.5 * distance**2), 0.0)
        total[step:] += near * scores[:-step]
        total[:-step] += near * scores[step:]
        weight[step:] += near
        weight[:-step] += near
    return total / weight


def normalized(scores: np.ndarray, how: str = "none") -> np.ndarray:
    """The scores of one video, `none`: as they are, `per_video_minmax`: from 0 (its least) to 1 (its highest), all 0 where they are equal.

    Returns:
        (n,) float64.

    Raises:
        UsageError: unknown way.
    """
    if how not in NORMALIZATIONS:
        raise UsageError(f"unknown normalisation '{how}'", f"known: {', '.join(NORMALIZATIONS)}")
    scores = np.asarray(scores, dtype=np.float64)
    if how == "none" or not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.zeros(len(scores))


def _counts(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anomalous and normal frames at or above each distinct score, from the highest score to the lowest; both begin with 0.

    Returns:
        two (k + 1,) float64 arrays of whole numbers (whose products stay exact far beyond the length of any data set).
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.shape != labels.shape:
        raise ValueError(f"{scores.shape} scores, {labels.shape} labels")
    if not np.isfinite(scores).all():
        raise InputError("a score is not a finite number")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("labels must be 0 (normal) or 1 (anomalous)")
    order = np.argsort(-scores, kind="stable")
    lasts = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1) if len(scores) else np.zeros(0, np.int64)
    hits = np.cumsum(labels[order].astype(np.float64))[lasts]
    return np.concatenate([[0.0], hits]), np.concatenate([[0.0], lasts + 1 - hits])
