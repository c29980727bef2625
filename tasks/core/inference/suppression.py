"""Suppression of segments in time that say the same: soft and hard non-maximum suppression, and voting.

Soft-NMS: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017, section 3, in one dimension, with the rules
of the C++ of ActionFormer (Zhang et al., ECCV 2022), so that equal scores come out in the same order.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

_AREA = 1e-6
"""Added to every length, so that segments of no length have an overlap."""
_VOTERS = 1 << 24
"""Pairs of segments that are compared at a time."""


def suppress(
    segments: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    sigma: float = 0.5,
    min_score: float = 0.001,
    voting: float = 0.0,
    max_keep: int | None = None,
    class_agnostic: bool = False,
    method: Literal["gaussian", "linear", "hard"] = "gaussian",
    iou: float = 0.5,
    voting_weight: Literal["score-iou", "score"] = "score-iou",
) -> tuple[Tensor, Tensor, Tensor]:
    """What is left of the segments of one video, the best first.

    The best segment left is kept again and again, and lowers the scores of those that it overlaps, by their IoU o: times exp(-o²/sigma)
    (gaussian), times 1 - o where o >= iou (linear), or to nothing where o >= iou (hard). A segment whose score comes out below `min_score`
    is dropped; the best one of a class is always kept, except by `hard`, which drops what is not above `min_score` first.

    Args:
        segments: (N, 2) float, start and end, in any unit.
        scores: (N,) float.
        labels: (N,) integer; segments of different classes do not touch each other.
        sigma: width of the Gaussian.
        min_score: see above.
        voting: every kept segment becomes the mean of all segments whose IoU with it is at least this, weighted by `voting_weight`; 0: it
            does not. Only used with `class_agnostic`: within one class too few segments are left to vote, and the public code does not.
        max_keep: how many are kept of all classes together; None: all.
        class_agnostic: all segments touch each other, and keep their labels.
        method: see above.
        iou: see above; `gaussian` does not use it.
        voting_weight: `score-iou` (ActionFormer), score times IoU; `score` (UnAV).

    Returns:
        segments (M, 2), scores (M,) after they were lowered, labels (M,), on the device of the input; the highest score first, equal
        ones by class.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, an unknown method.
    """
    _check(segments, scores, labels, method, voting_weight)
    bounds, points, classes = (x.detach().cpu() for x in (segments, scores, labels))
    bounds, points = (x.double() if x.dtype == torch.float64 else x.float() for x in (bounds, points))
    groups = torch.zeros_like(classes) if class_agnostic else classes
    pools = [
        _Pool(members, bounds.numpy()[members], points.numpy()[members], method, sigma, min_score, iou)
        for members in _members(groups.numpy())
    ]
    kept, left = _best_first(pools, len(points) if max_keep is None else max_keep)
    chosen, left = torch.from_numpy(kept), torch.from_numpy(left).to(points.dtype)
    result = bounds[chosen]
    if class_agnostic and voting > 0:
        result = _vote(result, bounds, points, voting, voting_weight == "score-iou")
    return result.to(segments), left.to(scores), labels[chosen.to(labels.device)]


def _check(segments: Tensor, scores: Tensor, labels: Tensor, method: str, voting_weight: str) -> None:
    if segments.shape != (len(scores), 2) or scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"segments {tuple(segments.shape)}, scores {tuple(scores.shape)} and labels {tuple(labels.shape)} do not fit")
    if not (torch.isfinite(segments).all() and torch.isfinite(scores).all()):
        raise ValueError("segments and scores must be finite")
    if method not in ("gaussian", "linear", "hard") or voting_weight not in ("score-iou", "score"):
        raise ValueError(f"unknown method '{method}' or voting weight '{voting_weight}'")


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Indices of each group, ascending, the groups by their number."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []


def _best_first(pools: list["_Pool"], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(M,) int64 indices and (M,) scores, taken from the pool with the best segment until `limit` are kept or none is left.

    Scores within a pool only fall, so this is the order in which suppression of each pool on its own and one sort would give them, and the
    rest of the pools is never looked at.
    """
    best = np.array([pool.best for pool in pools], np.float64)
    kept, left = [], []
    while len(kept) < limit and len(pools):
        which = int(best.argmax())
        if best[which] == -np.inf:
            break
        left.append(best[which])
        kept.append(pools[which].take())
        best[which] = pools[which].best
    return np.array(kept, np.int64), np.array(left, np.float64)


class _Pool:
    """Segments that touch each other and are not kept yet.

    Attributes:
        best: the highest score among them; -inf where none is left.
    """

    def __init__(
        self, members: np.ndarray, bounds: np.ndarray, scores: np.ndarray, method: str, sigma: float, min_score: float, iou: float
    ):
        self.method, self.sigma, self.min_score, self.iou = method, sigma, min_score, iou
        if method == "hard":
            above = np.flatnonzero(scores > min_score) if min_score > 0 else np.arange(len(scores))
            order = above[np.argsort(-scores[above], kind="stable")]
            members, bounds, scores = members[order], bounds[order], scores[order]
        lengths = bounds[:, 1] - bounds[:, 0] + bounds.dtype.type(_AREA)
        self.index, self.columns = members.copy(), np.stack([bounds[:, 0], bounds[:, 1], lengths, scores.astype(bounds.dtype)])
        self.first, self.end = 0, len(members)
        self._find()

    def take(self) -> int:
        """Takes the best segment out, lowers the others, and returns its index among all segments."""
        at, first = self.at, self.first
        chosen, start, end, length = int(self.index[at]), *self.columns[:3, at]
        self.index[at], self.columns[:, at] = self.index[first], self.columns[:, first]
        self.first += 1
        starts, ends, lengths, scores = self.columns[:, self.first : self.end]
        shared = np.minimum(end, ends) - np.maximum(start, starts)
        np.maximum(shared, 0, out=shared)
        overlap = shared / (length + lengths - shared)
        if self.method == "hard":
            self._keep_in_order(overlap < self.iou)
        else:
            falls = np.exp(-(overlap * overlap) / self.sigma) if self.method == "gaussian" else 1 - overlap * (overlap >= self.iou)
            scores *= falls
            self._fill_gaps(scores >= self.min_score)
        self._find()
        return chosen

    def _find(self) -> None:
        scores = self.columns[3, self.first : self.end]
        self.at = self.first + int(scores.argmax()) if len(scores) else -1
        self.best = float(self.columns[3, self.at]) if len(scores) else -np.inf

    def _keep_in_order(self, stay: np.ndarray) -> None:
        self.index = self.index[self.first : self.end][stay]
        self.columns = self.columns[:, self.first : self.end][:, stay]
        self.first, self.end = 0, len(self.index)

    def _fill_gaps(self, stay: np.ndarray) -> None:
        """Drops segments: the last one that stays takes the place of the first that does not, and so on. The order of those that stay
        decides between equal scores.
        """
        count = int(stay.sum())
        if count < len(stay):
            gaps = self.first + np.flatnonzero(~stay[:count])
            last = self.first + count + np.flatnonzero(stay[count:])[::-1]
            self.index[gaps], self.columns[:, gaps] = self.index[last], self.columns[:, last]
            self.end = self.first + count


def _vote(kept: Tensor, segments: Tensor, scores: Tensor, threshold: float, by_overlap: bool) -> Tensor:
    """(M, 2): means of the (N, 2) segments whose IoU with a kept one is at least `threshold`; one of no length stays as it is."""
    voted = []
    for some in kept.split(max(1, _VOTERS // max(1, len(segments)))):
        shared = (torch.minimum(some[:, None, 1], segments[:, 1]) - torch.maximum(some[:, None, 0], segments[:, 0])).clamp(min=0)
        together = (some[:, 1] - some[:, 0])[:, None] + (segments[:, 1] - segments[:, 0]) - shared
        overlap = torch.where(together > 0, shared / together, 0.0)
        weights = (overlap >= threshold) * scores * (overlap if by_overlap else 1)
        total = weights.sum(dim=1, keepdim=True)
        voted.append(torch.where(total > 0, (weights / total) @ segments, some))
    return torch.cat(voted)
