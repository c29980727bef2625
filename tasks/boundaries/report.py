"""The report of one video: a self-contained HTML page with a timeline and the pictures on each side of every boundary."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tasks.boundaries.result import Boundary, Detection, as_record
from tasks.core.report import cards, detections, timeline
from tasks.core.report.timeline import Curve, Mark, clock
from tasks.core.video.reader import VideoReader

_NOUNS = ("boundary", "boundaries")
_THUMBNAIL_PX = 112
_AT_ONCE = 16
_AFTER_S = 0.25  # right after a boundary most of the picture is still the same


def pictured(detection: Detection) -> list[int]:
    """Numbers of the boundaries that the report shows with thumbnails, in order of time: all, or those that score highest."""
    return detections.highest([boundary.score for boundary in detection.boundaries])


def thumbnail_frames(detection: Detection) -> list[tuple[int, int]]:
    """The frames that `write_report` wants, one pair per boundary of `pictured`.

    Returns:
        (last frame before the boundary, frame a quarter of a second after it); decode ordinals in [0, n_frames). The second comes
        earlier where the next boundary or the end of the video is near.
    """
    frames = [boundary.frame for boundary in detection.boundaries]
    last = detection.n_frames - 1
    pairs = []
    for i in pictured(detection):
        later = [frame for frame in frames[i + 1 : i + 2] if frame > frames[i]]
        end = (frames[i] + later[0]) // 2 if later else last
        after = min(frames[i] + round(_AFTER_S * detection.fps), end, last)
        pairs.append((max(0, frames[i] - 1), after))
    return pairs


def pictures(
    detection: Detection, reader: VideoReader, advance: Callable[[int], None] = lambda n: None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What `write_report` wants: for each pair of `thumbnail_frames` two pictures, (H, W, 3) uint8 RGB.

    Args:
        detection: what was found.
        reader: the video.
        advance: called with 0 now and then: still at work.

    Raises:
        VideoError: the video cannot be decoded again.
    """
    pairs = np.array(thumbnail_frames(detection), np.int64).reshape(-1, 2)
    numbers, back = np.unique(pairs, return_inverse=True)
    found: list[np.ndarray] = []
    for first in range(0, len(numbers), _AT_ONCE):
        found += list(reader.get(numbers[first : first + _AT_ONCE], min(_THUMBNAIL_PX, reader.height, reader.width)))
        advance(0)
    return [(found[a], found[b]) for a, b in back.reshape(-1, 2)]


def write_report(path: Path, detection: Detection, thumbnails: Sequence[tuple[np.ndarray, np.ndarray]] | None = None) -> None:
    """Writes the page; it appears whole or not at all, and asks for nothing outside itself.

    Args:
        thumbnails: a pair of frames, (H, W, 3) uint8 RGB of any size, for each pair of `thumbnail_frames`; None: a page without pictures.

    Raises:
        ValueError: the number of thumbnails is not that of `thumbnail_frames`.
    """
    shown = pictured(detection) if thumbnails is not None else []
    if thumbnails is not None and len(thumbnails) != len(shown):
        raise ValueError(f"{len(thumbnails)} pairs of thumbnails for {len(shown)} boundaries")
    record, n = as_record(detection), len(detection.boundaries)
    targets = detections.targets(_NOUNS[0], n, bool(shown))
    cut = ("Before and after", "the highest scores", len(shown), _cards(detection, shown, thumbnails)) if shown else None
    facts = {"candidates scored": len(detection.scores), "first frame at (s)": f"{record['start_s']:g}"}
    drawing, table = _timeline(detection, targets), _table(detection, targets)
    detections.write_page(path, record, _NOUNS, n, drawing, _why_none(detection), cut, table, facts)


def _why_none(detection: Detection) -> str:
    if not len(detection.scores):
        return "There are no boundaries: the video is too short to be scored."
    return f"There are no boundaries. The highest score is {float(detection.scores.score.max()):.2f}."


def _timeline(detection: Detection, targets: Sequence[str]) -> str:
    n, scores = len(detection.boundaries), detection.scores
    marks = [
        Mark(b.t, f"{i} of {n} · {clock(b.t)} · frame {b.frame} · {_told(b)}score {b.score:.2f}", target)
        for i, (b, target) in enumerate(zip(detection.boundaries, targets, strict=True), start=1)
    ]
    threshold = detection.settings.get("threshold")
    curve = Curve("score", scores.t, scores.score)
    return timeline.timeline([curve], marks, detection.start_s, detection.duration_s, threshold, _NOUNS)


def _cards(detection: Detection, shown: Sequence[int], thumbnails: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    pairs = dict(zip(shown, zip(thumbnail_frames(detection), thumbnails, strict=True), strict=True))
    contents = []
    for i, boundary in enumerate(detection.boundaries):
        pictures = ""
        if i in pairs:
            sides = zip(("before", "after"), *pairs[i], strict=True)
            pictures = cards.pair([(picture, f"{side} boundary {i + 1}", f"{side} · frame {frame}") for side, frame, picture in sides])
        contents.append(((clock(boundary.t), f"{_told(boundary)}score {boundary.score:.2f}"), pictures))
    return cards.cards("boundary", contents)


def _table(detection: Detection, targets: Sequence[str]) -> str:
    rows = [(clock(b.t), f"{b.t:.6f}", str(b.frame), f"{b.score:.4f}", b.kind or "") for b in detection.boundaries]
    return cards.table(("time", "t (s)", "frame", "score", "kind"), rows, targets)


def _told(boundary: Boundary) -> str:
    return f"{boundary.kind} · " if boundary.kind else ""
