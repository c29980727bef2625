"""The annotated video: every frame with its heat map, and below it the scores over time with a cursor where the frame stands."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tasks.anomalies.heat import overlay
from tasks.anomalies.panel import FLAGGED, Panel
from tasks.anomalies.result import AnomalyDetection
from tasks.core.report.annotated import evened, picture_size, write_images
from tasks.core.video.reader import VideoReader

_FRAME_PX = 4


def write_annotated(path: Path, detection: AnomalyDetection, reader: VideoReader, advance: Callable[[int], None] = lambda n: None) -> None:
    """Writes an mp4 without sound, see `write_images`.

    Frames keep their distances in time; the clock in the picture shows the presentation time of the original. Frames inside an interval
    have a coloured border. Frames without a score say so.

    Args:
        detection: what was found in the video, or in the part of it from start_s on.
        reader: that video, open.
        advance: called with 0 after every frame: still at work.

    Raises:
        VideoError: the video cannot be decoded again.
    """
    end_s = detection.start_s + detection.duration_s
    start, stop = np.searchsorted(reader.pts, [detection.start_s - 1e-6, end_s - 1e-6])
    images = _images(detection, reader, int(start), int(stop), advance)
    write_images(path, images, reader.pts[start:stop], end_s, detection.fps)


def _images(
    detection: AnomalyDetection, reader: VideoReader, start: int, stop: int, advance: Callable[[int], None]
) -> Iterator[np.ndarray]:
    scores = detection.scores
    short_side, height, width = picture_size(reader.height, reader.width)
    panel = Panel(detection, width, height)
    for number, t, picture in reader.frames(start, stop, short_side):
        row = int(np.searchsorted(scores.frame, number))
        row = row if row < len(scores) and scores.frame[row] == number else None
        flagged = any(interval.start_s <= t < interval.end_s for interval in detection.intervals)
        heat = None if row is None or scores.heat is None else scores.heat[row]
        yield np.concatenate([_drawn(picture, height, width, heat, flagged), panel.draw(t, number, row, flagged)])
        advance(0)


def _drawn(picture: np.ndarray, height: int, width: int, heat: np.ndarray | None, flagged: bool) -> np.ndarray:
    """(height, width, 3): the picture, its heat and, within an interval, a border."""
    if heat is not None:
        picture = overlay(picture, heat)
    picture = evened(picture, height, width)
    if flagged:
        for edge in (picture[:_FRAME_PX], picture[-_FRAME_PX:], picture[:, :_FRAME_PX], picture[:, -_FRAME_PX:]):
            edge[:] = FLAGGED
    return picture
