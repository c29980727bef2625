"""Anomalies as files: JSON, CSV, HTML report, annotated video. Nothing here detects anything."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.anomalies.result import AnomalyDetection, FrameScores
from tasks.core import files
from tasks.core.report.outputs import named, readable, video_facts
from tasks.core.video.reader import VideoReader

SUFFIXES = {"json": ".anomalies.json", "csv": ".anomalies.csv", "html": ".html", "mp4": ".anomalies.mp4"}


def outputs(folder: Path, name: str, kinds: Sequence[str]) -> list[Path]:
    """The files that `write_all` would write, one per kind, in order, without repetition.

    Args:
        folder: where they go. name: what their names begin with. kinds: of `SUFFIXES`.

    Raises:
        UsageError: unknown kind.
    """
    return named(folder, name, kinds, SUFFIXES)


def write_all(
    folder: Path,
    name: str,
    detection: AnomalyDetection,
    kinds: Sequence[str],
    reader: VideoReader,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Path]:
    """Writes one file per kind into `folder`, which is made; each appears whole or not at all.

    Args:
        reader: the video, open, for the pictures of report and annotated video. advance: called now and then with 0: still at work.

    Returns:
        The paths, as `outputs` names them.

    Raises:
        UsageError: unknown kind; nothing is written then. VideoError: the video cannot be read again.
    """
    paths = outputs(folder, name, kinds)
    for kind, path in zip(dict.fromkeys(kinds), paths, strict=True):
        if kind == "html":
            from tasks.anomalies.report import pictures, write_report

            write_report(path, detection, pictures(detection, reader, advance))
        elif kind == "mp4":
            from tasks.anomalies.annotate import write_annotated

            write_annotated(path, detection, reader, advance)
        else:
            {"json": write_json, "csv": write_csv}[kind](path, detection)
    return paths


def as_record(detection: AnomalyDetection) -> dict[str, Any]:
    """The JSON object of one video.

    Returns:
        `video`, `method`; `intervals` (each `start_s`, `end_s`, `start_frame`, `end_frame`, `peak`, `peak_s`, `peak_frame`);
        `peak` (`score`, `t`, `frame` of the highest score, or None); `n_frames`, `fps`, `duration_s`, `start_s`, `width`, `height` (px);
        `settings`, `notes`, `damage` (text or None); and `frames`: columns `t` (s, as the container states it), `frame` (decode
        ordinal), `score` and `parts` (indicator -> column), one value per frame. Plain Python values; scores are the shortest decimals
        that read back as the same float32.
    """
    columns = _columns(detection.scores)
    highest = int(np.argmax(detection.scores.score)) if len(detection.scores) else None
    return {
        "video": readable(detection.path),
        "method": detection.method,
        "intervals": [{**vars(interval), "peak": shortest(np.array([interval.peak]))[0]} for interval in detection.intervals],
        "peak": None if highest is None else {name: columns[name][highest] for name in ("score", "t", "frame")},
        **video_facts(detection),
        "settings": detection.settings,
        "notes": list(detection.notes),
        "damage": detection.damage,
        "frames": columns,
    }


def write_json(path: Path, detection: AnomalyDetection) -> None:
    """Writes `as_record`, one line per key, so that a column of a hundred thousand frames is one line."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in as_record(detection).items())
    files.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def write_csv(path: Path, detection: AnomalyDetection) -> None:
    """Writes one line per frame: `video,t,frame,score` and a column per indicator; t in seconds with six decimals."""
    scores, text = detection.scores, io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["video", "t", "frame", "score", *scores.parts])
    columns = [map(str, values.astype(np.float32)) for values in (scores.score, *scores.parts.values())]
    video = readable(detection.path)
    for t, frame, *values in zip(scores.t.tolist(), scores.frame.tolist(), *columns, strict=True):
        table.writerow([video, f"{t:.6f}", frame, *values])
    files.write_text(path, text.getvalue())


def shortest(values: np.ndarray) -> list[float]:
    """float32 -> float, such that each is written with as few digits as tell it apart from other float32 numbers."""
    return [float(str(value)) for value in values.astype(np.float32)]


def _columns(scores: FrameScores) -> dict[str, Any]:
    return {
        "t": [round(t, 6) for t in scores.t.tolist()],
        "frame": scores.frame.tolist(),
        "score": shortest(scores.score),
        "parts": {name: shortest(values) for name, values in scores.parts.items()},
    }
