"""What aligning one video gives: every sentence with its time and score, and the similarities behind it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.alignment.sentences import Script
from tasks.core.data.grid import Grid
from tasks.core.report.outputs import readable, video_facts


@dataclass(frozen=True)
class Aligned:
    """One sentence.

    Attributes:
        text: one line.
        start, end: where it belongs, seconds; of a sentence that does not belong there its best place.
        t: the second at which it is most similar.
        score: how alignable it is, in [0, 1]; without a model how well all subtitles fit the sound.
        alignable: it belongs there.
        given: (start, end) of the file, seconds; None: it had none.
    """

    text: str
    start: float
    end: float
    t: float
    score: float
    alignable: bool
    given: tuple[float, float] | None

    @property
    def shown(self) -> tuple[float, float]:
        """What a subtitle file gets: the new times, or those of the file where the sentence does not belong to the video."""
        return (self.start, self.end) if self.alignable or self.given is None else self.given


@dataclass(frozen=True)
class Alignment:
    """All sentences of one video.

    Attributes:
        path: the video as it was named.
        file: its absolute path.
        method: the model as it was named, or `sound-activity`.
        settings: what was set.
        script: the sentences as they came.
        sentences: in the order of the file.
        similarity: (K, T) or None without a model; NaN where a pair was not looked at.
        grid: of its columns.
        least: score from which a sentence is alignable; None: all are.
        shift: without a model: `offset_s`, `ratio`, `score`.
        file_start_s: presentation time of the file's first frame, where players are at 0.
        n_frames, fps, duration_s, start_s, width, height, damage: of the video, as `Footage.facts`.
        notes: what a reader must know.
    """

    path: str
    file: str
    method: str
    settings: dict[str, Any]
    script: Script
    sentences: list[Aligned]
    similarity: np.ndarray | None
    grid: Grid | None
    least: float | None
    shift: dict[str, float] | None
    file_start_s: float
    n_frames: int
    fps: float
    duration_s: float
    start_s: float
    width: int
    height: int
    damage: str | None
    notes: list[str] = field(default_factory=list)


def as_record(found: Alignment) -> dict[str, Any]:
    """The JSON object of a video: `video`, `text`, `method`, `settings`, facts of the video, `shift`, `notes` and `sentences` in the order
    of their file, each with `text`, `start`, `end`, `t` (seconds), `score`, `alignable`, and `given_start`, `given_end` where it had times.
    """
    return {
        "video": readable(found.path),
        "text": readable(str(found.script.path)),
        "method": found.method,
        "settings": found.settings,
        **video_facts(found),
        "damage": found.damage,
        "shift": found.shift,
        "notes": found.notes,
        "sentences": [_sentence(each) for each in found.sentences],
    }


def _sentence(each: Aligned) -> dict[str, Any]:
    given = {} if each.given is None else {"given_start": round(each.given[0], 3), "given_end": round(each.given[1], 3)}
    times = {name: round(getattr(each, name), 3) for name in ("start", "end", "t")}
    return {"text": each.text, **times, "score": round(each.score, 6), "alignable": each.alignable, **given}
