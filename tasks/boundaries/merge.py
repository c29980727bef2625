"""From scores of candidates to boundaries (thesis section 3.4.1)."""

import numpy as np

from tasks.boundaries.config import MergeConfig
from tasks.boundaries.result import Boundary, Scores

_GRACE_S = 1e-6


def merge(scores: Scores, config: MergeConfig) -> list[Boundary]:
    """Candidates at or above the threshold, those that belong together made into one boundary, in order of time.

    Rule `window`: a group begins at the first proposal and takes every further one within `window_s` of it.
    Rule `runs` (public code of the PC baseline): neighbouring candidates that are all proposals are one group.
    Pick `mean`: the score-weighted mean time and the frame there; `center`: the middle proposal, the earlier of two;
    `argmax`: the first of the best. A boundary carries the group's highest score.
    """
    kept = np.flatnonzero(scores.score >= config.threshold)
    return [_boundary(scores, group, config.pick) for group in _groups(scores, kept, config)]


def _groups(scores: Scores, kept: np.ndarray, config: MergeConfig) -> list[np.ndarray]:
    """(G,) arrays of positions in `scores`."""
    if config.rule == "runs":
        return [run for run in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1) if len(run)]
    groups, t = [], scores.t[kept]
    start = 0
    while start < len(kept):
        end = int(np.searchsorted(t, t[start] + config.window_s + _GRACE_S, side="right"))
        groups.append(kept[start:end])
        start = end
    return groups


def _boundary(scores: Scores, group: np.ndarray, pick: str) -> Boundary:
    score = scores.score[group].astype(np.float64)
    if pick == "mean":
        t = float(np.average(scores.t[group], weights=score if score.sum() > 0 else None))
        # between two candidates frames are taken as evenly spaced
        frame = int(np.interp(t, scores.t[group], scores.frame[group]) + 1e-3)
        return Boundary(t, frame, float(score.max()))
    best = group[(len(group) - 1) // 2] if pick == "center" else group[score.argmax()]
    return Boundary(float(scores.t[best]), int(scores.frame[best]), float(score.max()))
