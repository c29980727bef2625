"""What a detector of events says about one video: events, and a curve of scores for each class."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.core.data.segments.predictions import Event, event_dicts
from tasks.core.report.outputs import readable, video_facts

PROPOSAL = ""
"""The label of events whose class is left open."""
SHOWN_FROM = 0.2
"""Least score of what people are shown first, where they did not say otherwise."""


def best_half(scores: Iterable[float]) -> float:
    """Least score to show where scores are products of two, and low for that: half of the best, SHOWN_FROM at most."""
    return min(SHOWN_FROM, max(scores, default=0.0) / 2)


@dataclass(frozen=True)
class Curves:
    """Scores over time, on the grid of the features.

    Attributes:
        t: (n,) float64, the middles of the features, presentation time in seconds.
        score: (n, K) float16 in (0, 1), the highest of all points that stand for that time.
        labels: the K classes.
    """

    t: np.ndarray
    score: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class EventDetection:
    """Everything found in one video.

    Attributes:
        path: the video as it was named.
        file: its absolute path.
        method: the model as it was named.
        settings: what was set.
        events: the best first.
        curves: of all classes.
        shown_from: least score of what people are shown first.
        has_sound: None where the model does not listen.
        file_start_s: presentation time of the file's first frame, where players are at 0.
        n_frames, fps, duration_s, start_s, width, height, damage: of the video, as `Footage.facts`.
        notes: what a reader of the events must know.
    """

    path: str
    file: str
    method: str
    settings: dict[str, Any]
    events: list[Event]
    curves: Curves
    shown_from: float
    has_sound: bool | None
    file_start_s: float
    n_frames: int
    fps: float
    duration_s: float
    start_s: float
    width: int
    height: int
    damage: str | None
    notes: list[str] = field(default_factory=list)

    @property
    def shown(self) -> list[Event]:
        """The events that people are shown first, in order of time."""
        return sorted((event for event in self.events if event.score >= self.shown_from), key=lambda event: (event.start, event.end))


def as_record(detection: EventDetection) -> dict[str, Any]:
    """The JSON object of a video: `video`, `method`, `settings`, facts of the video, `has_sound`, `notes` and `events`, the best first,
    each with `label` (but for proposals), `start`, `end` (seconds) and `score`.
    """
    return {
        "video": readable(detection.path),
        "method": detection.method,
        "settings": detection.settings,
        **video_facts(detection),
        "damage": detection.damage,
        "has_sound": detection.has_sound,
        "notes": detection.notes,
        "events": event_dicts(detection.events),
    }
