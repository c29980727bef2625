"""Recall of proposals without a class: AR@AN and the area under its curve, as ActivityNet's evaluator of proposals counts them.

Of every video the same share of its proposals, best first, is kept, so that there are 100 per annotated video on average. At AN proposals
per video on average (each video gives the same share again) recall is the share of all events that some proposal of their video overlaps
with a tIoU of at least the threshold, averaged over the thresholds .5:.05:.95 (AR@AN). The area under AR over AN from 1 to 100, by
trapezoids and divided by 100, is the number that the challenge ranked by.
"""

from collections import Counter
from typing import Any

import numpy as np

from tasks.core.data.segments.table import EventTable, codes
from tasks.core.metrics.event_matching import tiou
from tasks.core.metrics.events import NOT_FINITE

PROPOSALS = "proposals"
"""Name of the protocol."""
SUBSETS = ("validation", "val", "test")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
AVERAGE = 100
"""Proposals per video at the end of the curve."""
_SHOWN = (1, 5, 10, 50, 100)


def proposal_scores(proposals: EventTable, truth: EventTable) -> dict[str, Any]:
    """Average recall at numbers of proposals.

    Args:
        proposals: with scores; labels do not matter.
        truth: all annotated events of the videos that count; labels do not matter.

    Returns:
        `average_recall`: AN ("1", "5", "10", "50", "100") -> AR@AN in [0, 1]; `auc` in [0, 1]; `curve`: AR@AN at the AN 1 to 100;
        `n_predictions` in annotated videos, `n_events`, `n_videos` with events; `n_dropped`, the sum of `dropped`: reason -> how many;
        `protocol`.
    """
    usable = np.isfinite(proposals.segment).all(axis=1) & np.isfinite(proposals.score)
    dropped = Counter({NOT_FINITE: int((~usable).sum())})
    proposals = proposals.keep(usable)
    videos: dict[str, int] = {}
    annotated = codes(truth.video, videos)
    curve, n_videos = np.zeros(AVERAGE), len(videos)
    named = codes(proposals.video, videos)
    if len(proposals) and n_videos:
        share = AVERAGE * n_videos / len(proposals)
        best = np.argsort(proposals.score, kind="stable")[::-1]
        places = _by_video(named[best], n_videos)
        kept = [proposals.segment[best[rows[: min(int(len(rows) * share), len(rows))]]] for rows in places]
        events = [truth.segment[rows] for rows in _by_video(annotated, n_videos)]
        curve = _curve(kept, events)
    return {
        "average_recall": {str(n): float(curve[n - 1]) for n in _SHOWN},
        "auc": float(np.trapezoid(curve, np.arange(1, AVERAGE + 1)) / AVERAGE),
        "curve": curve.tolist(),
        "n_predictions": int((named < n_videos).sum()),
        "n_events": len(truth),
        "n_videos": n_videos,
        "n_dropped": dropped.total(),
        "dropped": dict(+dropped),
        "protocol": PROPOSALS,
    }


def _by_video(video: np.ndarray, n_videos: int) -> list[np.ndarray]:
    """Rows of each of the first `n_videos` videos, in their order."""
    order = np.argsort(video, kind="stable")
    return np.split(order, np.searchsorted(video[order], np.arange(1, n_videos + 1)))[:n_videos]


def _curve(proposals: list[np.ndarray], events: list[np.ndarray]) -> np.ndarray:
    """(100,) AR@AN.

    Args:
        proposals: of each video (P, 2), the best first.
        events: of each video (G, 2).
    """
    total = sum(map(len, proposals))
    if not total:
        return np.zeros(AVERAGE)
    shares = np.arange(1, AVERAGE + 1) / AVERAGE * (AVERAGE * len(events) / total)
    found = np.zeros((len(THRESHOLDS), AVERAGE))
    for guesses, wanted in zip(proposals, events, strict=True):
        if not len(guesses):
            continue
        counts = np.minimum((len(guesses) * shares).astype(np.int64), len(guesses))
        for event in wanted:
            best_so_far = np.append(0, np.maximum.accumulate(tiou(guesses, event[None])))
            found += best_so_far[counts] >= THRESHOLDS[:, None]
    return found.mean(axis=0) / sum(map(len, events))
