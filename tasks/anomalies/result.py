"""What an anomaly detector says about one video: scores of several indicators per frame, their fusion, intervals above a threshold."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.core.report.outputs import readable, video_facts


@dataclass(frozen=True)
class FrameScores:
    """Scores per frame, in order of time.

    Attributes:
        t: (N,) float64 presentation times, seconds.
        frame: (N,) int64 decode ordinals.
        score: (N,) float32, the fusion, higher is more anomalous.
        parts: indicator -> (N,) float32, e.g. `appearance`, `motion`, `semantic`.
        heat: (N, h, w) uint8 where the picture is anomalous, 255 the most, coarse; None where the detector cannot tell.
    """

    t: np.ndarray
    frame: np.ndarray
    score: np.ndarray
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    heat: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True)
class Interval:
    """A run of frames whose score is at least the threshold.

    Attributes:
        start_s, end_s: presentation time of its first frame, and of the end of its last frame.
        start_frame, end_frame: first and last.
        peak: highest score in it.
        peak_s, peak_frame: where that is.
    """

    start_s: float
    end_s: float
    start_frame: int
    end_frame: int
    peak: float
    peak_s: float
    peak_frame: int


@dataclass(frozen=True)
class AnomalyDetection:
    """Everything found in one video.

    Attributes:
        path: the video as it was named.
        method: `training-free` or the model's name.
        settings: what was set (threshold, weights, smoothing, ...).
        n_frames, fps, duration_s, start_s, width, height: of the video; duration_s from the first frame's start to the last frame's end,
            start_s the presentation time of the first frame; width and height in px.
        notes: what a reader of the scores must know, e.g. how the edges of the video got theirs.
        damage: why the video is shorter than its file promises, or None.
    """

    path: str
    method: str
    settings: dict[str, Any]
    n_frames: int
    fps: float
    duration_s: float
    start_s: float
    width: int
    height: int
    scores: FrameScores
    intervals: list[Interval] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damage: str | None = None


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
