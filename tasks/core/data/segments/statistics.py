"""What annotated events are like: how many of each class and subset, and how long. Opens no video."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.manifest import MANIFEST_SUFFIXES, read_sources
from tasks.core.data.rows import Row
from tasks.core.data.segments.annotations import Annotations, Choices
from tasks.core.data.segments.formats import FORMATS, load_content, read_segments, recognise
from tasks.core.errors import InputError

UNLABELLED = "(no label)"
_TRAINING = ("train", "training", "validation", "val")
"""Subsets that others are compared with, the first that is there: THUMOS14 is trained on its validation videos."""


def are_annotations(source: str) -> bool:
    """Whether a source is a file of annotations: JSON, or the table of EPIC-KITCHENS-100; a manifest is not."""
    path = Path(_divided(source)[0])
    if not os.path.isfile(path):
        return False
    if path.suffix.lower() == ".json":
        return True
    if path.suffix.lower() != ".csv":
        return False
    with open(path, encoding="utf-8-sig", errors="replace") as lines:
        return "start_timestamp" in lines.readline()


def read_events(sources: Sequence[str], label: str | None = None) -> Annotations:
    """The events of annotation files and manifests, all together.

    Args:
        sources: files; `FILE@SUBSET` picks a subset (a split of a manifest).
        label: of EPIC-KITCHENS-100: verb, noun or action.

    Raises:
        InputError: a file cannot be read, is something else, or has no events.
        UsageError: a subset that does not occur; a malformed manifest.
    """
    found = Annotations()
    for source in sources:
        _join(found, _read(source, label))
    return found


def statistics(found: Annotations) -> dict[str, Any]:
    """Numbers, lengths and classes.

    Returns:
        `n_events`, `n_videos`, `n_classes`; `splits`: name -> `events`, `videos`, `classes`; `length_s` and `events_per_video`: `min`,
        `median`, `mean`, `max`; `most_events_in`, the video; `classes`: name -> `events`, `videos`, `splits`, `length_s`, the most
        frequent first; `missing_in_training`: subset -> classes that the training subset does not have; `noted` and `left_out`: reason ->
        number of events.
    """
    rows = found.rows
    by_class: dict[str, list[Row]] = defaultdict(list)
    by_split: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[UNLABELLED if row.label is None else row.label].append(row)
        by_split[row.split or ""].append(row)
    videos = Counter(row.path for row in rows)
    splits = {split: _counts(some) for split, some in sorted(by_split.items())}
    return {
        "n_events": len(rows),
        "n_videos": len(videos),
        "n_classes": len(by_class.keys() - {UNLABELLED}),
        "splits": {name: count for name, count in splits.items() if name},
        "length_s": _spread(row.end_s - row.start_s for row in rows),
        "events_per_video": _spread(videos.values()),
        "most_events_in": max(videos, key=videos.__getitem__, default=None),
        "classes": {
            name: {
                "events": len(some),
                "videos": len({row.path for row in some}),
                "splits": dict(sorted(Counter(row.split for row in some if row.split).items())),
                "length_s": _spread(row.end_s - row.start_s for row in some),
            }
            for name, some in sorted(by_class.items(), key=lambda entry: (-len(entry[1]), entry[0]))
        },
        "missing_in_training": _missing({name: {row.label for row in some if row.label} for name, some in by_split.items() if name}),
        "noted": dict(+found.noted),
        "left_out": dict(+found.left_out),
    }


def _counts(rows: list[Row]) -> dict[str, int]:
    return {"events": len(rows), "videos": len({row.path for row in rows}), "classes": len({row.label for row in rows if row.label})}


def _spread(values: Iterable[float]) -> dict[str, float]:
    numbers = np.array(list(values), np.float64)
    if not len(numbers):
        return {}
    return {name: float(f(numbers)) for name, f in (("min", np.min), ("median", np.median), ("mean", np.mean), ("max", np.max))}


def _missing(classes: dict[str, set[str]]) -> dict[str, list[str]]:
    lower = {name.lower(): name for name in classes}
    training = next((lower[name] for name in _TRAINING if name in lower), None)
    if training is None:
        return {}
    missing = {name: sorted(labels - classes[training]) for name, labels in classes.items() if name != training}
    return {name: labels for name, labels in missing.items() if labels}


def _divided(source: str) -> tuple[str, str | None]:
    if os.path.exists(source) or "@" not in source:
        return source, None
    path, _, split = source.rpartition("@")
    return path, split


def _read(source: str, label: str | None) -> Annotations:
    path, split = _divided(source)
    if not are_annotations(source) and (os.path.isdir(path) or Path(path).suffix.lower() in MANIFEST_SUFFIXES):
        return _of_manifest(source)
    content = load_content(path)
    kind = recognise(content)
    if kind is None:
        raise InputError(f"{path}: the format of these annotations is not known", f"known: {', '.join(FORMATS)}, and manifests")
    return read_segments(content, path, kind, Choices(split, label if FORMATS[kind].labels else None))


def _of_manifest(source: str) -> Annotations:
    found = Annotations()
    for row in read_sources([source], any_times=True):
        times = None if row.start_s is None or row.end_s is None else (row.start_s, row.end_s)
        found.add(row.path, times, _number(row.extra.get("duration")), label=row.label, split=row.split, text=row.text)
    if not found.rows:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in found.left_out.items())
        raise InputError(f"{source}: no row has an event", f"a manifest of events has the columns path, label, start and end; {reasons}")
    found.note_overlaps()
    return found


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _join(found: Annotations, other: Annotations) -> None:
    found.rows += other.rows
    found.left_out.update(other.left_out)
    found.noted.update(other.noted)
    found.facts += other.facts
