"""`vid eval events`: a file of predicted events against a file of annotated ones."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.segments.predictions import NOT_READ, Predictions, read_predictions
from tasks.core.data.segments.truth import Truth, read_truth
from tasks.core.engine.run import source_commit
from tasks.core.errors import InputError
from tasks.core.metrics.events import event_scores, protocol_named
from tasks.core.metrics.proposals import PROPOSALS, SUBSETS, proposal_scores
from tasks.core.reporter import Reporter

LABELS = ("verb", "noun", "action")
"""What may be the class in EPIC-KITCHENS-100."""


def run(
    predictions: str | Path,
    ground_truth: str | Path,
    reporter: Reporter,
    protocol: str = "unav",
    subset: str | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """One JSON-able object: what `event_scores` (or `proposal_scores`) returns, and where the numbers come from.

    Args:
        predictions: see `read_predictions`.
        ground_truth: see `read_truth`.
        reporter: told what does not count, and why.
        protocol: of `events.PROTOCOLS`, or PROPOSALS.
        subset: of the ground truth; None: the one on which the protocol is measured.
        label: of LABELS; None: the verb.

    Returns:
        their keys, with everything that is dropped while reading added to `dropped` and `n_dropped`; `n_missing` videos of the subset that
        the predictions do not name; `n_unread` that could not be read when they were made; `n_unknown` predictions of videos outside the
        subset; `subset`, `label` (of EPIC-KITCHENS-100), `predictions`, `ground_truth`, `data_hash`, `commit`.

    Raises:
        InputError: a file cannot be read or used, is the other one, or both have no video in common; no score is a number.
        UsageError: unknown protocol or subset.
    """
    proposals = protocol == PROPOSALS
    preferred = SUBSETS if proposals else protocol_named(protocol).subsets
    truth = read_truth(ground_truth, preferred, subset, label)
    found = read_predictions(predictions, truth.videos | truth.others, _label(truth, label), proposals)
    unknown = _check(found, truth, predictions, ground_truth)
    scores = proposal_scores(found.events, truth.events) if proposals else event_scores(found.events, truth.events, protocol)
    read = Counter({reason: count for reason, count in found.left_out.items() if reason != NOT_READ})
    dropped = Counter(scores["dropped"]) + truth.left_out + read
    missing = truth.videos - set(found.videos)
    result = {
        **scores,
        "n_dropped": dropped.total(),
        "dropped": dict(dropped),
        "n_missing": len(missing),
        "n_unread": found.left_out[NOT_READ],
        "n_unknown": unknown,
        "subset": truth.subset,
        "label": _label(truth, label),
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "data_hash": hashlib.sha256(Path(ground_truth).read_bytes()).hexdigest()[:16],
        "commit": source_commit(),
    }
    _say(result, truth, missing, reporter)
    return result


def _label(truth: Truth, label: str | None) -> str | None:
    return label or LABELS[0] if truth.format == "epic100" else None


def _check(found: Predictions, truth: Truth, predictions: str | Path, ground_truth: str | Path) -> int:
    """How many predictions are of videos outside the subset; InputError where nothing can be measured."""
    if not len(truth.events):
        raise InputError(f"{ground_truth}: no events in it" + (f" for subset '{truth.subset}'" if truth.subset else ""))
    if found.videos and truth.videos.isdisjoint(found.videos):
        first = found.videos[0]
        if first in truth.others:
            raise InputError(
                f"all {len(found.videos)} predicted videos are of other subsets than '{truth.subset}'", "choose theirs with --subset NAME"
            )
        raise InputError(
            f"{predictions} and {ground_truth} have no video in common",
            f"the first is called '{first}' there and '{min(truth.videos)}' here",
        )
    scores = found.events.score
    if len(scores) and not np.isfinite(scores).any():
        raise InputError(f"{predictions}: none of the {len(scores)} scores is a finite number", "did the model diverge?")
    return sum(count for video, count in Counter(found.events.video).items() if video not in truth.videos)


def _say(result: dict[str, Any], truth: Truth, missing: frozenset[str], reporter: Reporter) -> None:
    where = f"subset '{truth.subset}'" if truth.subset else "the ground truth"
    for reason, count in result["dropped"].items():
        reporter.warn(f"left out {count}: {reason}")
    if result["n_unread"]:
        reporter.warn(f"videos that could not be read when the predictions were made: {result['n_unread']}; their events count as missed")
    if missing:
        reporter.warn(
            f"{len(missing)} of {len(truth.videos)} videos of {where} have no predictions, the first is '{min(missing)}'; "
            "their events count as missed"
        )
    if result["n_unknown"]:
        reporter.warn(f"predictions of videos outside {where}: {result['n_unknown']}; they count as false positives")
    if strangers := result.get("classes_without_events"):
        reporter.warn(f"predicted classes without events in {where}: {len(strangers)}, e.g. '{next(iter(strangers))}'; not in the mean")
        if not any(entry["n_predictions"] for entry in result["per_class"].values()):
            reporter.warn(f"no predicted class has events; one that has is '{next(iter(result['per_class']))}'")
