"""What an importer of annotations gives: a row for each segment, and counts of all that is not plain."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from tasks.core.data.rows import Row

NO_TIMES = "no times that can be read"
NO_LENGTH = "the end is not after the start"
NO_VIDEO = "no name of a video"
NOT_FOUND = "segments of videos that are not there"
NO_SEGMENTS = "videos without segments"


@dataclass(frozen=True)
class Choices:
    """What a user may say about a file.

    Attributes:
        split: the subset to keep; of a file that names none, the split to write.
        label: which of several labels counts: verb, noun or action.
        window_s, step_s: length and distance, seconds, of the clips that videos are cut into, where a format does that; None: as published.
    """

    split: str | None = None
    label: str | None = None
    window_s: float | None = None
    step_s: float | None = None


@dataclass
class Annotations:
    """Segments in the order of their file.

    What a manifest can hold is kept as it is written and counted where it is odd; only what it cannot hold is left out.

    Attributes:
        rows: one for each segment; `path` is the name of the video.
        left_out: reason -> number of segments (of videos where the reason says so).
        noted: what is odd -> number of segments that are kept.
        facts: sentences about the whole file.
        no_length: the segments that were left out because they do not end after they start; an evaluation may count them.
    """

    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)
    facts: list[str] = field(default_factory=list)
    no_length: list[Row] = field(default_factory=list)
    _seen: set[tuple] = field(default_factory=set)

    def add(self, video: str, times: Any, duration: Any = None, extra: Mapping[str, Any] | None = None, **values: str | None) -> None:
        """One segment.

        Args:
            video: name of its video.
            times: (start, end), numbers or texts of seconds, or anything, which is then left out.
            duration: of the video in seconds, as its file states it; None where it does not.
            extra: further columns by name; None is not a value.
            values: `label`, `split` and `text`.
        """
        seconds = _seconds(times)
        if not video:
            self.left_out[NO_VIDEO] += 1
        elif seconds is None:
            self.left_out[NO_TIMES] += 1
        else:
            columns = {"duration": duration, **(extra or {})}
            row = Row(video, None, *seconds, extra={name: str(value) for name, value in columns.items() if value is not None})
            row.label, row.split, row.text = (values.get(name) or None for name in ("label", "split", "text"))
            if seconds[1] <= seconds[0]:
                self.left_out[NO_LENGTH] += 1
                self.no_length.append(row)
            else:
                self._note(row, duration)
                self.rows.append(row)

    def note_overlaps(self) -> None:
        """Counts the segments that begin before an earlier one of their video is over."""
        until: dict[str, float] = {}
        for row in sorted(self.rows, key=lambda row: row.start_s):
            self.noted["overlap an earlier one"] += row.start_s < until.get(row.path, -math.inf)
            until[row.path] = max(row.end_s, until.get(row.path, -math.inf))

    def _note(self, row: Row, duration: Any) -> None:
        key = (row.path, row.start_s, row.end_s, row.label, row.text)
        odd = {
            "have neither label nor text": row.label is None and row.text is None,
            "begin before 0": row.start_s < 0,
            "end after the duration that the file states": isinstance(duration, int | float) and row.start_s < duration < row.end_s,
            "begin when the video is over, as the file states": isinstance(duration, int | float) and row.start_s >= duration,
            "occur again with the same times and label": key in self._seen,
        }
        self.noted.update(reason for reason, true in odd.items() if true)
        self._seen.add(key)


def _seconds(times: Any) -> tuple[float, float] | None:
    """(start, end); None where they are not two finite numbers."""
    if not isinstance(times, list | tuple) or len(times) != 2:
        return None
    try:
        start, end = (clock_seconds(time) if isinstance(time, str) else float(time) for time in times)
    except (TypeError, ValueError, OverflowError):
        return None
    return (start, end) if math.isfinite(start) and math.isfinite(end) else None


def clock_seconds(time: str) -> float:
    """Seconds of `75.5`, `01:15.5` or `00:01:15.5`, the nearest float; ValueError for anything else."""
    *larger, last = time.strip().split(":")
    if len(larger) > 2 or (larger and "-" in time):
        raise ValueError(time)
    minutes = 0
    for part in larger:
        minutes = minutes * 60 + int(part)
    try:
        return float(minutes * 60 + Decimal(last))
    except InvalidOperation:
        raise ValueError(time) from None
