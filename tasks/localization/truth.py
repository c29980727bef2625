"""Events of the videos of a manifest: its own rows, or those of an annotation file."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tasks.core.data.rows import Row, Rows
from tasks.core.data.segments.annotations import Choices
from tasks.core.data.segments.formats import FORMATS, load_content, read_segments, recognise
from tasks.core.data.segments.names import AnnotatedVideos
from tasks.core.errors import InputError

BESIDE = "annotations.json"
"""Where annotations are looked for, beside a manifest without events."""


def is_event(row: Row) -> bool:
    """Whether a row is an event: it has a class and both times, the end after the start."""
    return row.label is not None and row.start_s is not None and row.end_s is not None and row.end_s > row.start_s


def with_events(rows: Rows, sources: Iterable[str], annotations: str | None) -> Rows:
    """The rows of a manifest of events as they are; of a list of videos a row for each of their events, and one without times for a video
    that has none.

    Args:
        rows: of `sources`.
        sources: manifests, for the annotations beside them.
        annotations: a file of annotations in any format that `vid data import` reads; None: BESIDE the first source, where there is one.

    Raises:
        InputError: the annotations cannot be read, name none of the videos, or several that may be one of them.
    """
    if not len(rows) or any(is_event(row) for row in rows):
        return rows
    file = Path(annotations) if annotations else _beside(sources)
    if file is None:
        return rows
    events = _events(file)
    annotated = AnnotatedVideos(events)
    found, matched = [], 0
    for row in rows:
        own = events.get(annotated.find(row.path, str(file)), [])
        matched += bool(own)
        if not own:
            found.append(Row(row.path, None, split=row.split))
        found += [Row(row.path, event.label, event.start_s, event.end_s, row.split) for event in own]
    if not matched:
        example = next(iter(events))
        raise InputError(
            f"{file} has no events of the {len(rows)} videos: it speaks of '{example}'", "videos are found by their file's name"
        )
    return Rows.of(found)


def _events(file: Path) -> dict[str, list[Row]]:
    """Video, as the file calls it -> its events."""
    content = load_content(file)
    format = recognise(content)
    if format is None:
        raise InputError(f"{file}: not a file of annotations that is known", f"formats: {', '.join(FORMATS)}")
    events: dict[str, list[Row]] = defaultdict(list)
    for row in read_segments(content, str(file), format, Choices()).rows:
        events[row.path].append(row)
    return events


def _beside(sources: Iterable[str]) -> Path | None:
    for source in sources:
        path = Path(source if os.path.exists(source) else source.rpartition("@")[0] or source)
        file = (path if path.is_dir() else path.parent) / BESIDE
        if file.is_file():
            return file
    return None
