"""Events as files: CSV, subtitles, ActivityNet's result format, a page. Nothing here detects anything."""

import csv
import io
from pathlib import Path

from tasks.core import files
from tasks.core.data.segments.predictions import write_results
from tasks.core.report.events import EventDetection
from tasks.core.report.outputs import readable

SUFFIXES = {
    "json": ".events.json",
    "csv": ".events.csv",
    "srt": ".events.srt",
    "anet": ".events.anet.json",
    "html": ".events.html",
}
"""Kind of file -> how its name ends; `json` is the record, see `tasks.core.inference.output`."""


def write_file(kind: str, path: Path, detection: EventDetection) -> None:
    """Writes one kind of file; it appears whole or not at all.

    Args:
        kind: of `SUFFIXES`, without the record.
        path: the file.
        detection: what was found.
    """
    if kind == "html":
        from tasks.core.report.event_page import write_report

        write_report(path, detection)
    else:
        {"csv": write_csv, "srt": write_srt, "anet": write_activitynet}[kind](path, detection)


def write_csv(path: Path, detection: EventDetection) -> None:
    """Writes one line per event, the best first: `video` (its name without the ending), `start` and `end` (s), `score`, `label`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("video", "start", "end", "score", "label"))
    writer.writerows((_name(detection), e.start, e.end, e.score, e.label) for e in detection.events)
    files.write_text(path, text.getvalue())


def write_srt(path: Path, detection: EventDetection) -> None:
    """Writes the events that people are shown as subtitles, in order of time; times are those of players, from the first frame on."""
    cues = []
    for number, event in enumerate(detection.shown, start=1):
        start, end = (_srt_time(t - detection.file_start_s) for t in (event.start, event.end))
        cues.append(f"{number}\n{start} --> {end}\n{' '.join(event.label.split()) or 'event'} ({event.score:.2f})\n")
    files.write_text(path, "\n".join(cues))


def _srt_time(seconds: float) -> str:
    ms = max(0, round(seconds * 1000))
    minutes, rest = divmod(ms // 1000, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d},{ms % 1000:03d}"


def write_activitynet(path: Path, detection: EventDetection) -> None:
    """Writes ActivityNet's results of this one video, named like its file without the ending."""
    write_results(path, {_name(detection): detection.events})


def _name(detection: EventDetection) -> str:
    return Path(readable(detection.path)).stem
