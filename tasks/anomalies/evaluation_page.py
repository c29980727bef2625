"""What `vid eval anomalies` found as a page: ROC curves, how scores of normal and anomalous frames are spread, a table of the videos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.metrics import anomalies as metrics
from tasks.core.report import figures
from tasks.core.report.page import Page

MOST_POINTS = 400
_APART = ("videos", "parts", "auc", "eer", "ap")


def write_page(path: Path, result: Mapping[str, Any], scores: np.ndarray, labels: np.ndarray, parts: Mapping[str, np.ndarray]) -> None:
    """Writes the page; it appears whole or not at all, and asks for nothing outside itself.

    Args:
        path: the file.
        result: of `evaluate.run`.
        scores, labels: (n,) of all frames that count, smoothed and normalised as the protocol says.
        parts: indicator -> (n,) scores of it alone.
    """
    page = Page("Anomaly detection", f"{result['protocol']} · {result['n_videos']} videos, {result['n_frames']} frames")
    page.section("Result").table(["measure", "value"], [[name, result[name]] for name in ("auc", "eer", "ap")])
    page.text(
        "AUC, the area under the ROC curve, is as the protocol says; EER (equal error rate) and AP (average precision) are of all frames."
    )
    both = 0 < result["n_anomalous"] < result["n_frames"]
    drawn = []
    if both:
        curves = {"fused" if parts else "score": scores, **parts}
        thinned = {name: _thinned(*metrics.roc(values, labels)) for name, values in curves.items() if np.isfinite(values).all()}
        axes = ("share of anomalous frames found", "share of normal frames taken for anomalous")
        drawn.append((figures.curves(thinned, *axes), "ROC curve of all frames together"))
    kinds = {"normal": scores[labels == 0], "anomalous": scores[labels == 1]}
    drawn.append((figures.histogram(kinds, "score"), "scores of frames, each kind with an area of 1"))
    page.section("Scores").gallery(drawn)
    if parts:
        page.section("Indicators").table(["indicator", "auc"], [[name, value] for name, value in result["parts"].items()])
    rows = [[video, found["auc"], found["n_frames"], found["n_anomalous"]] for video, found in result["videos"].items()]
    page.section("Videos").table(["video", "auc", "frames", "anomalous"], rows)
    page.section("Details").facts({name.replace("_", " "): _text(value) for name, value in result.items() if name not in _APART})
    page.write(path)


def _thinned(xs: np.ndarray, ys: np.ndarray) -> tuple[list[float], list[float]]:
    """At most `MOST_POINTS` points of a curve, evenly along its way."""
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(xs)) + np.abs(np.diff(ys)))])
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], MOST_POINTS)).clip(max=len(xs) - 1))
    return xs[chosen].tolist(), ys[chosen].tolist()


def _text(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value
