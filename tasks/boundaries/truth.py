"""Annotated boundaries: JSON in the format of the GEBD challenge, or a manifest with a column `boundaries`. Nothing here opens a video.

JSON: `{video id: {"path", "video_duration", "fps", "num_frames", "f1_consis", "f1_consis_avg", "substages_timestamps": [[s, ...], ...]}}`,
one list of seconds per rater. Paths are relative to the file's folder; without one the video is sought there by its id.
"""

import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.boundaries.labels import best_rater
from tasks.boundaries.result import part_name
from tasks.core.data.manifest import Row, read_sources
from tasks.core.data.parsing import VIDEO_SUFFIXES
from tasks.core.errors import InputError, UsageError

COLUMN = "boundaries"
_FORMAT = "one object per video id, with 'substages_timestamps': a list of seconds per rater"


@dataclass(frozen=True)
class AnnotatedVideo:
    """One video, or part of one, with its boundaries.

    Attributes:
        id: its name in results, unique within a set.
        row: where it lies; its label is the text of `boundaries`, so that they count in a run's data hash.
        raters: boundaries of every rater, seconds from the start of the part that counts (of the first frame, where it is all).
        consistency: agreement of each rater with the others (F1), empty where unknown;
        mean_consistency: their mean, or 1.
        duration_s: as the annotation states it; None: that of the file.
    """

    id: str
    row: Row
    raters: tuple[tuple[float, ...], ...]
    consistency: tuple[float, ...] = ()
    mean_consistency: float = 1.0
    duration_s: float | None = None

    @property
    def boundaries(self) -> tuple[float, ...]:
        """Of the rater who agrees most with the others."""
        return self.raters[best_rater(list(self.consistency))]

    def as_truth(self, duration_s: float) -> dict[str, Any]:
        """The entry of `tasks.core.metrics.boundaries`; `duration_s` is used where the annotation states none."""
        return {
            "video_duration": self.duration_s or duration_s,
            "f1_consis": list(self.consistency),
            "f1_consis_avg": self.mean_consistency,
            "substages_timestamps": [list(rater) for rater in self.raters],
        }


def read_truth(sources: list[str], role: str) -> list[AnnotatedVideo]:
    """The videos of all sources: JSON files, or manifests (`PATH@SPLIT` picks a split) with a column `boundaries`.

    In a manifest the seconds are separated by `;` or blanks, an empty cell means no boundary, and there is one rater.

    Args:
        role: `train` or `val`, which split of a manifest to take.

    Raises:
        UsageError: a file is malformed, has no boundaries, or two sources name a video alike.
        InputError: a source does not exist.
    """
    videos = []
    for source in sources:
        videos += _read_json(Path(source)) if source.lower().endswith(".json") else _read_manifest(source, role)
    seen: set[str] = set()
    for video in videos:
        if video.id in seen:
            raise UsageError(f"the video '{video.id}' occurs twice in {', '.join(sources)}")
        seen.add(video.id)
    return videos


def start_of(row: Row, pts: np.ndarray) -> float:
    """The presentation time from which the boundaries of a row are counted, for a video with these frame times."""
    return float(pts[0]) if row.start_s is None else row.start_s


def boundary_times(row: Row, pts: np.ndarray) -> np.ndarray:
    """The training boundaries of a row of `AnnotatedVideo` as presentation times; (M,) float64."""
    return start_of(row, pts) + np.array([float(t) for t in row.label.split()])


def present(videos: list[AnnotatedVideo]) -> tuple[list[AnnotatedVideo], list[tuple[str, str]]]:
    """(videos whose files exist, (path, reason) of the others)."""
    there = [os.path.exists(video.row.path) for video in videos]
    missing = [(video.row.path, "no such file") for video, found in zip(videos, there, strict=True) if not found]
    return [video for video, found in zip(videos, there, strict=True) if found], missing


def _read_json(file: Path) -> list[AnnotatedVideo]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{file}: not JSON ({error})") from None
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f"{file}: no annotation of boundaries", f"expected {_FORMAT}")
    folder = Path(os.path.abspath(file.parent))
    return [_entry(file, folder, name, entry) for name, entry in entries.items()]


def _entry(file: Path, folder: Path, name: str, entry: Any) -> AnnotatedVideo:
    try:
        raters = tuple(_seconds(rater) for rater in entry["substages_timestamps"])
        consistency = tuple(float(f1) for f1 in entry.get("f1_consis", ()))
        mean = float(entry.get("f1_consis_avg", np.mean(consistency) if consistency else 1.0))
        duration = entry.get("video_duration")
        if not raters or len(consistency) not in (0, len(raters)):
            raise ValueError
        video = _video_of(folder, name, entry)
        return _annotated(name, Row(video), raters, consistency, mean, None if duration is None else float(duration))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{file}: the entry '{name}' is not an annotation of boundaries", f"expected {_FORMAT}") from None


def _video_of(folder: Path, name: str, entry: dict[str, Any]) -> str:
    """The file that an entry is about; where nothing fits, the one that was looked for first."""
    named = entry.get("path")
    wanted = [folder / named] if named else []
    wanted += [folder / f"{name}{suffix}" for suffix in ("", ".mp4", *sorted(VIDEO_SUFFIXES))]
    return str(next((path for path in wanted if path.exists()), wanted[0] if named else wanted[1]))


def _read_manifest(source: str, role: str) -> list[AnnotatedVideo]:
    rows = read_sources([source], role)
    if not any(COLUMN in row.extra for row in rows):
        raise UsageError(
            f"{source} says nothing about boundaries", f"give a JSON file of annotations, or a manifest with a column '{COLUMN}' (seconds)"
        )
    stems = Counter(Path(row.path).stem for row in rows)
    videos = []
    for row in rows:
        text = row.extra.get(COLUMN, "").strip().strip("[]")
        try:
            boundaries = _seconds(part for part in re.split(r"[;,\s]+", text) if part)
        except ValueError:
            raise UsageError(f"{source}: boundaries of {row.path} are '{text}'", "expected seconds, separated by ';' or blanks") from None
        stem = Path(row.path).stem
        name = part_name(stem if stems[stem] == 1 else row.path, row.start_s, row.end_s)
        duration = None if row.start_s is None or row.end_s is None else row.end_s - row.start_s
        videos.append(_annotated(name, row, (boundaries,), (), 1.0, duration))
    return videos


def _annotated(name: str, row: Row, raters: tuple, consistency: tuple, mean: float, duration: float | None) -> AnnotatedVideo:
    video = AnnotatedVideo(name, row, raters, consistency, mean, duration)
    row.label = " ".join(map(repr, video.boundaries))
    return video


def _seconds(values: Any) -> tuple[float, ...]:
    """Finite seconds in the order given, which scoring depends on; ValueError where something else stands."""
    found = tuple(float(value) for value in values)
    if not all(math.isfinite(value) for value in found):
        raise ValueError
    return found
