"""Which predictions take an event, of a million at once."""

from dataclasses import dataclass

import numpy as np

_PAIRS = 1 << 21
"""Pairs of a prediction and an event whose overlap is computed at a time: tens of MB."""


@dataclass(frozen=True)
class Columns:
    """Events as numbers.

    Attributes:
        video: (N,) int64.
        label: (N,) int64.
        segment: (N, 2) float64, seconds.
        score: (N,) float64; None: the truth.
    """

    video: np.ndarray
    label: np.ndarray
    segment: np.ndarray
    score: np.ndarray | None = None


@dataclass(frozen=True)
class _Pairs:
    """Predictions and events that overlap enough, for each prediction the event that it prefers first.

    Attributes:
        prediction: (M,) int64, ascending.
        event: (M,) int64.
        overlap: (M,) float64, tIoU.
    """

    prediction: np.ndarray
    event: np.ndarray
    overlap: np.ndarray


def match(predictions: Columns, truth: Columns, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives every prediction, the best of its class first, the free event of its class and video that it overlaps most.

    Args:
        predictions: N of them, with scores.
        truth: the events.
        thresholds: (T,) least tIoU.

    Returns:
        (N,) int64 order: predictions by class and falling score, of equal scores the last first; and (T, N) bool in that order: whether a
        prediction took an event.
    """
    falling = np.argsort(predictions.score, kind="stable")[::-1]
    order = falling[np.argsort(predictions.label[falling], kind="stable")]
    hits = np.zeros((len(thresholds), len(order)), bool)
    if len(order) and len(truth.label):
        pairs = _overlapping(predictions, order, truth, float(thresholds.min()))
        for row, threshold in zip(hits, thresholds, strict=True):
            enough = pairs.overlap >= threshold
            row[_takers(pairs.prediction[enough], pairs.event[enough], len(order), len(truth.label))] = True
    return order, hits


def _overlapping(predictions: Columns, order: np.ndarray, truth: Columns, least: float) -> _Pairs:
    """Pairs of one class and video with a tIoU of at least `least` > 0; predictions are numbered by their place in `order`."""
    place, first, last = _near(predictions, order, truth)
    counts = last - first
    with_events = np.flatnonzero(counts)
    totals = np.cumsum(counts[with_events])
    found = []
    done = 0
    while done < len(with_events):
        before = int(totals[done - 1]) if done else 0
        upto = max(done + 1, int(np.searchsorted(totals, before + _PAIRS, "right")))
        some = with_events[done:upto]
        who = np.repeat(some, counts[some])
        within = np.arange(len(who)) - np.repeat(np.cumsum(counts[some]) - counts[some], counts[some])
        event = place[first[who] + within]
        overlap = tiou(predictions.segment[order[who]], truth.segment[event])
        enough = overlap >= least
        found.append((who[enough], event[enough], overlap[enough]))
        done = upto
    who, event, overlap = (np.concatenate(column) for column in zip(*found, strict=True)) if found else (np.zeros(0, np.int64),) * 3
    best_first = np.lexsort((-event, -overlap, who))
    return _Pairs(who[best_first], event[best_first], overlap[best_first])


def _near(predictions: Columns, order: np.ndarray, truth: Columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events by class, video and start, (M,) int64; and for each prediction in `order` the first and one past the last of those that may
    overlap it, (N,) int64 each: they begin before its end, and not further before its start than the longest of its class and video lasts.
    """
    n_videos = 1 + max(int(predictions.video.max()), int(truth.video.max()))
    theirs, ours = truth.label * n_videos + truth.video, (predictions.label * n_videos + predictions.video)[order]
    known, group = np.unique(theirs, return_inverse=True)
    longest = np.zeros(len(known))
    np.maximum.at(longest, group, truth.segment[:, 1] - truth.segment[:, 0])
    mine = np.minimum(np.searchsorted(known, ours), len(known) - 1)
    starts = np.sort(truth.segment[:, 0])
    step = len(starts) + 1  # so that one number holds the group and the rank of a start
    keys = group * step + np.searchsorted(starts, truth.segment[:, 0])
    place = np.argsort(keys, kind="stable")
    bounds = predictions.segment[order]
    first = np.searchsorted(keys[place], mine * step + np.searchsorted(starts, bounds[:, 0] - longest[mine]))
    last = np.searchsorted(keys[place], mine * step + np.searchsorted(starts, bounds[:, 1]))
    return place, first, np.where(known[mine] == ours, np.maximum(last, first), first)


def tiou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(M,) intersection over union in time of (M, 2) and (M, 2) segments, or of one; 0 where the union has no length."""
    with np.errstate(over="ignore"):  # of times that nobody means
        shared = np.maximum(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0)
        together = (b[:, 1] - b[:, 0]) + (a[:, 1] - a[:, 0]) - shared
        return np.divide(shared, together, out=np.zeros_like(shared), where=together > 0)


def _takers(prediction: np.ndarray, event: np.ndarray, n_predictions: int, n_events: int) -> np.ndarray:
    """Predictions that take an event, when each in turn takes the first free one of its list.

    All ask for their favourite at once; of those who ask for one event the earliest keeps it, and the others ask for their next. As every
    event prefers the earlier prediction, this ends where taking turns does (deferred acceptance, Gale and Shapley 1962).

    Args:
        prediction: (M,) ascending; earlier numbers have the first choice.
        event: (M,) what they ask for, in their order.
    """
    holder = np.full(n_events, n_predictions)
    starts = np.flatnonzero(np.diff(prediction, prepend=-1))
    ends = np.append(starts[1:], len(prediction))
    position = np.zeros(n_predictions, np.int64)  # of a prediction's list among the lists
    position[prediction[starts]] = np.arange(len(starts))
    asks, at = np.arange(len(starts)), starts.copy()  # lists that ask, and where each list stands
    while len(asks):
        wanted, who = event[at[asks]], prediction[at[asks]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, who)
        refused = asks[holder[wanted] != who]
        displaced = np.unique(before[(before < n_predictions) & (holder[wanted] != before)])
        asks = np.concatenate([refused, position[displaced]])
        at[asks] += 1
        asks = asks[at[asks] < ends[asks]]
    return holder[holder < n_predictions]
