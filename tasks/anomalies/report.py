"""The report of one video: a self-contained HTML page with its scores over time and a picture of every interval's peak."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tasks.anomalies.heat import overlay
from tasks.anomalies.result import AnomalyDetection, Interval, as_record
from tasks.core.report import cards, detections, timeline
from tasks.core.report.timeline import Curve, Mark, clock
from tasks.core.video.reader import VideoReader

_NOUNS = ("interval", "intervals")


def pictured(detection: AnomalyDetection) -> list[int]:
    """Numbers of the intervals that the report shows with pictures, in order of time: all, or those with the highest peaks."""
    return detections.highest([interval.peak for interval in detection.intervals])


def pictures(detection: AnomalyDetection, reader: VideoReader, advance: Callable[[int], None] = lambda n: None) -> list[np.ndarray]:
    """What `write_report` wants: for each interval of `pictured` the frame of its peak, (H, W, 3) uint8 RGB.

    Args:
        advance: called with 0 after every picture: still at work.

    Raises:
        VideoError: the video cannot be decoded again.
    """
    side = min(cards.SIDE_PX, reader.height, reader.width)
    found = []
    for i in pictured(detection):
        found += list(reader.get([detection.intervals[i].peak_frame], side))
        advance(0)
    return found


def write_report(path: Path, detection: AnomalyDetection, thumbnails: Sequence[np.ndarray] | None = None) -> None:
    """Writes the page; it appears whole or not at all, and asks for nothing outside itself.

    Args:
        thumbnails: pictures as `pictures` gives them; None: a page without. With a heat map of the frame each stands beside a copy that
            shows it.

    Raises:
        ValueError: the number of thumbnails is not that of `pictured`.
    """
    shown = pictured(detection) if thumbnails is not None else []
    if thumbnails is not None and len(thumbnails) != len(shown):
        raise ValueError(f"{len(thumbnails)} pictures for {len(shown)} intervals")
    record, n = as_record(detection), len(detection.intervals)
    targets = detections.targets(_NOUNS[0], n, bool(shown))
    cut = ("Peaks", "the highest peaks", len(shown), _cards(detection, dict(zip(shown, thumbnails, strict=True)))) if shown else None
    drawing, table = _timeline(detection, targets), _table(detection.intervals, targets)
    detections.write_page(path, record, _NOUNS, n, drawing, _why_none(detection), cut, table, _facts(record))


def _why_none(detection: AnomalyDetection) -> str:
    if not len(detection.scores):
        return "Nothing was scored: the video is too short."
    return f"Nothing reaches the threshold. The highest score is {float(detection.scores.score.max()):.3g}."


def _timeline(detection: AnomalyDetection, targets: Sequence[str]) -> str:
    n, scores, threshold = len(detection.intervals), detection.scores, detection.settings.get("threshold")
    marks = []
    for i, (interval, target) in enumerate(zip(detection.intervals, targets, strict=True), start=1):
        name = f"{i} of {n} · {_span(interval)} · peak {interval.peak:.2f} at {clock(interval.peak_s)}"
        marks.append(Mark(interval.start_s, name, target, interval.end_s))
    curves = [Curve("score", scores.t, scores.score, *_range(scores.score, threshold))]
    curves += [Curve(name, scores.t, values, *_range(values)) for name, values in scores.parts.items()]
    return timeline.timeline(curves, marks, detection.start_s, detection.duration_s, threshold, _NOUNS)


def _range(values: np.ndarray, threshold: float | None = None) -> tuple[float, float]:
    """What a curve is drawn between: 0 and 1 where they hold everything, else the values' own range with the threshold in it."""
    found = [*([float(values.min()), float(values.max())] if len(values) else [0.0, 1.0]), *([] if threshold is None else [threshold])]
    low, high = min(found), max(found)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return min(0.0, low), high if high > min(0.0, low) else low + 1.0


def _span(interval: Interval) -> str:
    return f"{clock(interval.start_s)} – {clock(interval.end_s)}"


def _cards(detection: AnomalyDetection, thumbnails: Mapping[int, np.ndarray]) -> str:
    contents = []
    for i, interval in enumerate(detection.intervals):
        row = int(np.searchsorted(detection.scores.frame, interval.peak_frame))
        below = _peak(detection, interval, row, thumbnails[i], i + 1) if i in thumbnails else ""
        parts = (f"<span>{escape(name)} {values[row]:.2f}</span>" for name, values in detection.scores.parts.items())
        why = f'<p class="why">{"".join(parts)}</p>' if detection.scores.parts else ""
        contents.append(((_span(interval), f"peak {interval.peak:.2f}"), below + why))
    return cards.cards("interval", contents)


def _peak(detection: AnomalyDetection, interval: Interval, row: int, picture: np.ndarray, number: int) -> str:
    caption = f"{clock(interval.peak_s)} · frame {interval.peak_frame}"
    sides = [(picture, f"peak of interval {number}", caption)]
    if detection.scores.heat is not None:
        sides.append((overlay(picture, detection.scores.heat[row]), f"where interval {number} is anomalous", "where"))
    return cards.pair(sides)


def _table(intervals: Sequence[Interval], targets: Sequence[str]) -> str:
    header = ("start", "end", "start (s)", "end (s)", "frames", "peak", "peak at", "peak frame")
    rows = [
        (
            *(clock(i.start_s), clock(i.end_s), f"{i.start_s:.6f}", f"{i.end_s:.6f}", f"{i.start_frame}–{i.end_frame}"),
            *(f"{i.peak:.4f}", clock(i.peak_s), str(i.peak_frame)),
        )
        for i in intervals
    ]
    return cards.table(header, rows, targets)


def _facts(record: Mapping[str, Any]) -> dict[str, object]:
    facts = {"frames scored": len(record["frames"]["t"]), "first frame at (s)": f"{record['start_s']:g}"}
    top = record["peak"]
    return facts if top is None else {**facts, "highest score": f"{top['score']:.4g} at {clock(top['t'])} (frame {top['frame']})"}
