"""Mean average precision of events in time, as the public evaluators count it.

The evaluator of ActivityNet (Caba Heilbron et al., CVPR 2015), which THUMOS14, EPIC-KITCHENS-100 and UnAV-100 took over:

1. Predictions of a class, of all videos together, are taken by falling score; of equal scores the later in the file first.
2. A prediction takes the event of its class and video that it overlaps most among those still free, if their IoU in time (tIoU) is at
   least the threshold; of events that it overlaps alike the later in the file. Otherwise it is a false positive, as one of no length is.
3. Average precision is the area under precision over recall, precision made non-increasing (as in Pascal VOC 2011).
4. mAP is the mean over the classes that have events; a class without predictions has 0.

Unlike the public code a predicted class without events never counts as another one: it has no recall, so it is left out of the mean and
counted. Equal scores are in an order that does not depend on the processor.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tasks.core.data.segments.activitynet import AMBIGUOUS
from tasks.core.data.segments.table import EventTable, codes
from tasks.core.errors import UsageError
from tasks.core.metrics.event_matching import Columns, match

TOO_SHORT = "events shorter than 1 ms"
TWICE = "events that another one of their class equals within 1 ms"
NOT_A_CLASS = f"events labelled '{AMBIGUOUS}'"
NOT_FINITE = "predictions whose times or score are not finite numbers"


@dataclass(frozen=True)
class Protocol:
    """What differs between data sets.

    Attributes:
        thresholds: of tIoU; averaged over.
        shown: those that papers print.
        subsets: on which it is measured, the usual one first.
        once_s: an event counts once where an earlier one of its class has both ends at most this far away.
        least_s: events that are shorter do not count.
    """

    thresholds: tuple[float, ...]
    shown: tuple[str, ...]
    subsets: tuple[str, ...]
    once_s: float = 1e-3
    least_s: float = 1e-3


def _evenly(first: float, last: float, n: int) -> tuple[float, ...]:
    return tuple(np.linspace(first, last, n).tolist())


PROTOCOLS = {
    "unav": Protocol(_evenly(0.1, 0.9, 9), ("0.5", "0.6", "0.7", "0.8", "0.9"), ("test", "validation", "val"), least_s=-np.inf),
    "thumos": Protocol(_evenly(0.3, 0.7, 5), ("0.3", "0.4", "0.5", "0.6", "0.7"), ("test", "validation", "val")),
    "activitynet": Protocol(_evenly(0.5, 0.95, 10), ("0.5", "0.75", "0.95"), ("validation", "val", "test")),
    "epic": Protocol(_evenly(0.1, 0.5, 5), ("0.1", "0.2", "0.3", "0.4", "0.5"), ("validation", "val", "test")),
}
"""Thresholds and treatment of the annotations as in the evaluators of UnAV and (the others) ActionFormer."""


def protocol_named(name: str) -> Protocol:
    """The protocol; UsageError for an unknown one."""
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{name}'", f"known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def event_scores(predictions: EventTable, truth: EventTable, protocol: str = "unav") -> dict[str, Any]:
    """Average precision per threshold and class.

    Args:
        predictions: with scores, any number per video, of any class.
        truth: all annotated events of the videos that count.
        protocol: of PROTOCOLS.

    Returns:
        `map`: threshold ("0.1") -> mAP in [0, 1]; `average_map`, their mean; `per_class`: class -> `ap` (threshold -> AP), `average`,
        `n_events` and `n_predictions`; `n_predictions` and `n_events` that count; `n_videos` with such events; `n_dropped`, the sum of
        `dropped`: reason -> how many events or predictions; `n_classes` in the mean; `classes_without_events`: predicted class ->
        predictions; `protocol`.

    Raises:
        UsageError: unknown protocol.
    """
    rules = protocol_named(protocol)
    dropped: Counter[str] = Counter()
    truth = _counting(truth, rules, protocol, dropped)
    usable = np.isfinite(predictions.segment).all(axis=1) & np.isfinite(predictions.score)
    dropped[NOT_FINITE] = int((~usable).sum())
    predictions = predictions.keep(usable)
    videos: dict[str, int] = {}
    labels: dict[str, int] = {}
    annotated = Columns(codes(truth.video, videos), codes(truth.label, labels), truth.segment)
    n_videos, n_classes = len(videos), len(labels)
    found = Columns(codes(predictions.video, videos), codes(predictions.label, labels), predictions.segment, predictions.score)
    order, hits = match(found, annotated, np.array(rules.thresholds))
    names = list(labels)
    ap = _by_class(found.label[order], hits, np.bincount(annotated.label, minlength=n_classes))
    events, guesses = np.bincount(annotated.label, minlength=len(names)), np.bincount(found.label, minlength=len(names))
    keys = [f"{threshold:g}" for threshold in rules.thresholds]
    means = ap.mean(axis=1) if n_classes else np.zeros(len(keys))
    per_class = {
        names[i]: {
            "ap": dict(zip(keys, ap[:, i].tolist(), strict=True)),
            "average": float(ap[:, i].mean()),
            "n_events": int(events[i]),
            "n_predictions": int(guesses[i]),
        }
        for i in sorted(range(n_classes), key=names.__getitem__)
    }
    return {
        "map": dict(zip(keys, means.tolist(), strict=True)),
        "average_map": float(means.mean()),
        "per_class": per_class,
        "n_predictions": len(predictions),
        "n_events": len(truth),
        "n_videos": n_videos,
        "n_dropped": dropped.total(),
        "dropped": dict(+dropped),
        "n_classes": n_classes,
        "classes_without_events": {names[i]: int(guesses[i]) for i in range(n_classes, len(names))},
        "protocol": protocol,
    }


def _counting(truth: EventTable, rules: Protocol, protocol: str, dropped: Counter[str]) -> EventTable:
    """The events that count, the others counted."""
    if protocol == "thumos":
        clear = np.array([label != AMBIGUOUS for label in truth.label], bool)
        dropped[NOT_A_CLASS] = int((~clear).sum())
        truth = truth.keep(clear)
    long = truth.segment[:, 1] - truth.segment[:, 0] >= rules.least_s
    dropped[TOO_SHORT] = int((~long).sum())
    truth = truth.keep(long)
    first = _first_of_its_kind(truth, rules.once_s)
    dropped[TWICE] = int((~first).sum())
    return truth.keep(first)


def _first_of_its_kind(truth: EventTable, once_s: float) -> np.ndarray:
    """(N,) bool: no earlier event of the same video and class that is kept itself has both ends within `once_s`."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(truth.video, truth.label, strict=True)):
        groups.setdefault(key, []).append(i)
    first = np.ones(len(truth), bool)
    for members in groups.values():
        bounds = truth.segment[members]
        for j in range(1, len(members)):
            near = (np.abs(bounds[:j] - bounds[j]) <= once_s).all(axis=1)
            first[members[j]] = not (near & first[members[:j]]).any()
    return first


def _by_class(labels: np.ndarray, hits: np.ndarray, n_events: np.ndarray) -> np.ndarray:
    """(T, C) average precision of the classes that have events.

    Args:
        labels: (N,) ascending, classes of predictions, each class by falling score.
        hits: (T, N) bool, whether a prediction takes an event, per threshold.
        n_events: (C,) events per class.
    """
    ap = np.zeros((len(hits), len(n_events)))
    edges = np.searchsorted(labels, np.arange(len(n_events) + 1))
    for label, (first, last) in enumerate(pairwise(edges)):
        if first < last:
            taken = hits[:, first:last]
            precision = np.cumsum(taken, axis=1) / np.arange(1, last - first + 1)
            best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            ap[:, label] = (best_from_here * taken).sum(axis=1) / n_events[label]
    return ap
