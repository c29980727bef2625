"""What a detector says about one video: a score per candidate and the boundaries made from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.core.report.outputs import readable, video_facts


def part_name(video: str, start_s: float | None, end_s: float | None) -> str:
    """How annotations and predictions call a part of a video: `NAME@START-END`; the name alone for the whole."""
    if start_s is None and end_s is None:
        return video
    return f"{video}@{start_s or 0:.10g}-{'' if end_s is None else f'{end_s:.10g}'}"


@dataclass(frozen=True)
class Boundary:
    """One boundary.

    Attributes:
        t: presentation time, seconds, as the container states it (the first frame's time need not be 0).
        frame: decode ordinal of the first frame of the new event.
        score: of the detector, higher is surer; in [0, 1].
    """

    t: float
    frame: int
    score: float


@dataclass(frozen=True)
class Scores:
    """A score per candidate, in order of time.

    Attributes:
        t: (N,) float64 presentation times, seconds.
        frame: (N,) int64 decode ordinals.
        score: (N,) float32 in [0, 1].
    """

    t: np.ndarray
    frame: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def join(cls, parts: Iterable["Scores"]) -> "Scores":
        """Parts that follow each other as one."""
        t, frame, score = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for part in parts:
            t.append(part.t)
            frame.append(part.frame)
            score.append(part.score)
        return cls(np.concatenate(t), np.concatenate(frame), np.concatenate(score))


@dataclass(frozen=True)
class Detection:
    """Everything found in one video.

    Attributes:
        path: the video as it was named.
        method: `training-free` or the model's name.
        settings: what was set (threshold, merge rule, ...), enough to repeat the step from scores to boundaries.
        n_frames, fps, duration_s, start_s: of the video; duration_s = time from the first frame's start to the last frame's end; start_s =
            presentation time of the first frame.
        width, height: px. n_frames is of the whole file, the others of the part looked at.
        part: (start, end) in seconds as a manifest named it, either may be None; None: the whole video.
        file_start_s: presentation time of the file's first frame.
        file: absolute path.
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
    scores: Scores
    boundaries: list[Boundary] = field(default_factory=list)
    damage: str | None = None
    part: tuple[float | None, float | None] | None = None
    file_start_s: float = 0.0
    file: str = ""


def as_record(detection: Detection) -> dict[str, Any]:
    """The JSON object of one video.

    Returns:
        `video`, `method`, `boundaries` (each `t` in seconds as the container states it, `frame` the decode ordinal, `score` in [0, 1]),
        `n_frames`, `fps`, `duration_s`, `start_s`, `width`, `height` (px), `settings`, `damage` (text or None); plain Python values.
    """
    return {
        "video": readable(detection.path),
        "method": detection.method,
        "boundaries": [{"t": float(b.t), "frame": int(b.frame), "score": float(b.score)} for b in detection.boundaries],
        **video_facts(detection),
        "settings": detection.settings,
        "damage": detection.damage,
        "part": None if detection.part is None else list(detection.part),
    }
