"""Annotated events to measure against: a published file of annotations, or a manifest with a row for each event."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.core.data.manifest import MANIFEST_SUFFIXES, index_path
from tasks.core.data.rows import Row
from tasks.core.data.segments.annotations import NO_LENGTH, NO_SEGMENTS, Choices
from tasks.core.data.segments.formats import FORMATS, load_content, read_segments, recognise
from tasks.core.data.segments.table import EventTable
from tasks.core.errors import InputError, UsageError

NO_LABEL = "segments without a label"


@dataclass(frozen=True)
class Truth:
    """The events of one subset.

    Attributes:
        events: in the order of the file; also those that do not end after they start, which nothing can find.
        videos: of the subset, also those without events where the file names them.
        others: videos of other subsets.
        subset: as the file calls it; None where it has no subsets.
        format: of `FORMATS`, or `manifest`.
        left_out: reason -> number of segments that are not in `events`.
    """

    events: EventTable
    videos: frozenset[str]
    others: frozenset[str]
    subset: str | None
    format: str
    left_out: Counter[str] = field(default_factory=Counter)


def read_truth(path: str | Path, preferred: Sequence[str], subset: str | None = None, label: str | None = None) -> Truth:
    """The events of one subset of a file.

    Args:
        path: annotations in one of FORMATS, or a manifest (CSV, JSON Lines) with the columns path, label, start and end.
        preferred: subsets to take, the first that the file has; capital letters do not matter.
        subset: to take this one.
        label: of EPIC-KITCHENS-100: verb, noun or action.

    Raises:
        InputError: it cannot be read, is something else, or has no events.
        UsageError: no such subset, or which one cannot be told; a label that the format does not have.
    """
    content = None if Path(path).suffix.lower() in (".jsonl", ".ndjson") else load_content(path)
    if isinstance(content, Mapping) and ("results" in content or {"video", "events"} <= content.keys()):
        raise InputError(f"{path}: these are predictions, not annotations", "are --predictions and --ground-truth swapped?")
    kind = recognise(content) if content is not None else None
    if kind is None:
        return _of_manifest(path, preferred, subset, label)
    named = _subsets(content) if kind in ("activitynet", "thumos14") else {}
    chosen = _choose(path, named.values(), preferred, subset)
    found = read_segments(content, os.fspath(path), kind, Choices(chosen, label))
    counted = Counter({reason: n for reason, n in found.left_out.items() if reason not in (NO_LENGTH, NO_SEGMENTS)})
    rows = [*found.rows, *found.no_length]
    videos = {video for video, name in named.items() if name == chosen} or {row.path for row in rows}
    return Truth(_table(rows, counted), frozenset(videos), frozenset(named.keys() - videos), chosen, kind, +counted)


def _of_manifest(path: str | Path, preferred: Sequence[str], subset: str | None, label: str | None) -> Truth:
    if Path(path).suffix.lower() not in MANIFEST_SUFFIXES:
        raise InputError(f"{path}: the format of these annotations is not known", f"known: {', '.join(FORMATS)}, and manifests")
    if label is not None:
        raise UsageError("--label is of the annotations of EPIC-KITCHENS-100; a manifest has one label")
    rows = list(index_path(path, any_times=True))
    timed = [row for row in rows if row.start_s is not None and row.end_s is not None]
    if not timed:
        raise InputError(f"{path}: no row has a start and an end", "a manifest of events has the columns path, label, start and end")
    chosen = _choose(path, (row.split for row in rows), preferred, subset)
    counted = Counter({"rows without start or end": len(rows) - len(timed)})
    events = _table([row for row in timed if chosen is None or row.split == chosen], counted)
    videos = {row.path for row in rows if chosen is None or row.split == chosen}
    return Truth(events, frozenset(videos), frozenset({row.path for row in rows} - videos), chosen, "manifest", +counted)


def _subsets(content: Mapping[str, Any]) -> dict[str, Any]:
    """Video -> its subset."""
    videos = content.get("database", content)
    return {video: entry.get("subset") for video, entry in videos.items() if isinstance(entry, Mapping)}


def _choose(path: str | Path, named: Iterable[Any], preferred: Sequence[str], subset: str | None) -> str | None:
    there = list(dict.fromkeys(str(name) for name in named if name))
    lower = {name.lower(): name for name in reversed(there)}
    if subset is not None:
        if subset not in there and subset.lower() not in lower:
            raise UsageError(f"{path}: no videos of subset '{subset}'", f"subsets there: {', '.join(there) or 'none'}")
        return subset if subset in there else lower[subset.lower()]
    if (found := next((lower[name] for name in preferred if name in lower), None)) is not None:
        return found
    if len(there) > 1:
        raise UsageError(f"{path}: which subset to measure on cannot be told", f"choose one with --subset: {', '.join(there)}")
    return there[0] if there else None


def _table(rows: Sequence[Row], counted: Counter[str]) -> EventTable:
    labelled = [row for row in rows if row.label is not None]
    counted[NO_LABEL] += len(rows) - len(labelled)
    times = [(row.start_s, row.end_s) for row in labelled]
    if rows and not labelled:
        raise InputError(
            f"none of the {len(rows)} annotated segments has a label", "sentences and boundaries are measured by other commands"
        )
    return EventTable.of([row.path for row in labelled], [row.label for row in labelled], times)
