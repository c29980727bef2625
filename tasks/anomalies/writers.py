"""Anomalies as files: JSON, CSV, HTML report, annotated video. Nothing here detects anything."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tasks.anomalies.result import AnomalyDetection, as_record
from tasks.core import files
from tasks.core.report.outputs import named, readable
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
