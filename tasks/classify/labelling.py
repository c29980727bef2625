"""What a classifier says about one video: the probability of every class, over all of it and window by window."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.core.report.outputs import readable, video_facts


@dataclass(frozen=True)
class Part:
    """Neighbouring windows that show the same.

    Attributes:
        start, end: seconds.
        label: the most probable class of each of them.
        score: its mean probability in them.
    """

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class Labelling:
    """Everything said about one video.

    Attributes:
        path: the video as it was named.
        file: its absolute path.
        method: the model as it was named.
        settings: what was set.
        labels: the C classes.
        top: classes that are named.
        probabilities: (C,) float32, the mean over windows.
        windows: (n, C) float16, of each window; n = 0 where they are spread over the video and overlap, as in testing.
        times: (n, 2) float64, from when to when each window is, seconds.
        views: windows and squares of each that were seen, `5x3`.
        file_start_s: presentation time of the file's first frame, where players are at 0.
        n_frames, fps, duration_s, start_s, width, height, damage: of the video, as `Footage.facts`.
    """

    path: str
    file: str
    method: str
    settings: dict[str, Any]
    labels: list[str]
    top: int
    probabilities: np.ndarray
    windows: np.ndarray
    times: np.ndarray
    views: str
    file_start_s: float
    n_frames: int
    fps: float
    duration_s: float
    start_s: float
    width: int
    height: int
    damage: str | None

    def named(self, probabilities: np.ndarray) -> list[tuple[str, float]]:
        """(class, probability) of the `top` most probable of (C,), the first of equal ones first."""
        order = np.argsort(-probabilities.astype(np.float64), kind="stable")[: self.top]
        return [(self.labels[number], round(float(probabilities[number]), 6)) for number in order]

    @property
    def parts(self) -> list[Part]:
        """The video cut where the most probable class changes; a window ends where the next begins."""
        if not len(self.windows):
            return []
        best = self.windows.argmax(1)
        firsts = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist()]
        found = []
        for first, last in zip(firsts, [*firsts[1:], len(best)], strict=True):
            end = self.times[last, 0] if last < len(best) else self.times[last - 1, 1]
            score = float(self.windows[first:last, best[first]].astype(np.float64).mean())
            found.append(Part(round(float(self.times[first, 0]), 4), round(float(end), 4), self.labels[best[first]], round(score, 6)))
        return found


def as_record(labelling: Labelling) -> dict[str, Any]:
    """The JSON object of a video: `video`, `method`, `settings`, facts of the video, `views`, `labels` (class and score, the best first)
    and, of one that was seen window by window, `parts` (start, end, label, score) and `windows` (start, end, labels).
    """
    found = {
        "video": readable(labelling.path),
        "method": labelling.method,
        "settings": labelling.settings,
        **video_facts(labelling),
        "damage": labelling.damage,
        "views": labelling.views,
        "labels": _dicts(labelling.named(labelling.probabilities)),
    }
    if not len(labelling.windows):
        return found
    windows = zip(labelling.times.round(4).tolist(), labelling.windows, strict=True)
    return {
        **found,
        "parts": [vars(part) for part in labelling.parts],
        "windows": [{"start": start, "end": end, "labels": _dicts(labelling.named(values))} for (start, end), values in windows],
    }


def _dicts(named: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in named]
