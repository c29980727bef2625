"""Anomalies as files: CSV, HTML report, annotated video. Nothing here detects anything."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tasks.anomalies.result import AnomalyDetection
from tasks.core import files
from tasks.core.report.outputs import readable
from tasks.core.video.reader import VideoReader

SUFFIXES = {"json": ".anomalies.json", "csv": ".anomalies.csv", "html": ".anomalies.html", "mp4": ".anomalies.mp4"}
"""Kind of file -> how its name ends; `json` is the record, see `tasks.core.inference.output`."""


def write_file(
    kind: str, path: Path, detection: AnomalyDetection, reader: VideoReader, advance: Callable[[int], None] = lambda n: None
) -> None:
    """Writes one kind of file; it appears whole or not at all.

    Args:
        kind: of `SUFFIXES`, without the record.
        path: the file.
        detection: what was found.
        reader: the video, open, for the pictures of report and annotated video.
        advance: called now and then with 0: still at work.

    Raises:
        VideoError: the video cannot be read again.
    """
    if kind == "html":
        from tasks.anomalies.report import pictures, write_report

        write_report(path, detection, pictures(detection, reader, advance))
    elif kind == "mp4":
        from tasks.anomalies.annotate import write_annotated

        write_annotated(path, detection, reader, advance)
    else:
        write_csv(path, detection)


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
