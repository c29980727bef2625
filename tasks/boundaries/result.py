"""What a detector says about one video: a score per candidate and the boundaries made from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.core.report.outputs import readable, video_facts

KINDS = ("cut", "dissolve", "event")
"""What the training-free detector tells apart: another shot at once; another one little by little; a change within a shot."""


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
        kind: of KINDS; None where the detector does not tell.
    """

    t: float
    frame: int
    score: float
    kind: str | None = None


@dataclass(frozen=True)
class Scores:
    """A score per candidate, in order of time.

    Attributes:
        t: (N,) float64 presentation times, seconds.
        frame: (N,) int64 decode ordinals.
        score: (N,) float32 in [0, 1].
        kind: (N,) uint8, place in KINDS; None where the detector does not tell.
    """

    t: np.ndarray
    frame: np.ndarray
    score: np.ndarray
    kind: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def join(cls, parts: Iterable["Scores"]) -> "Scores":
        """Parts that follow each other as one."""
        t, frame, score = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        kinds = []
        for part in parts:
            t.append(part.t)
            frame.append(part.frame)
            score.append(part.score)
            kinds.append(part.kind)
        told = np.concatenate(kinds) if kinds and all(kind is not None for kind in kinds) else None
        return cls(np.concatenate(t), np.concatenate(frame), np.concatenate(score), told)


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
        `video`, `method`, `boundaries` (each `t` in seconds as the container states it, `frame` the decode ordinal, `score` in [0, 1], and
        where the detector tells it `kind`, of KINDS),
        `n_frames`, `fps`, `duration_s`, `start_s`, `width`, `height` (px), `settings`, `damage` (text or None); plain Python values.
    """
    return {
        "video": readable(detection.path),
        "method": detection.method,
        "boundaries": [_as_row(boundary) for boundary in detection.boundaries],
        **video_facts(detection),
        "settings": detection.settings,
        "damage": detection.damage,
        "part": None if detection.part is None else list(detection.part),
    }


def _as_row(boundary: Boundary) -> dict[str, Any]:
    row = {"t": float(boundary.t), "frame": int(boundary.frame), "score": float(boundary.score)}
    return row if boundary.kind is None else {**row, "kind": boundary.kind}
