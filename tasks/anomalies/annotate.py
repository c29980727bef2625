"""The annotated video: every frame with its heat map, and below it the scores over time with a cursor where the frame stands."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.anomalies.heat import overlay
from tasks.anomalies.panel import FLAGGED, Panel
from tasks.anomalies.result import AnomalyDetection
from tasks.core.files import replacing
from tasks.core.video.media import import_av
from tasks.core.video.reader import VideoReader, scaled_size

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SMALLEST_PX, LARGEST_PX = 240, 720
"""The shorter side of the picture is brought into this range: below it the letters have no room, above it nobody sees more."""
_TICK = Fraction(1, 60000)  # the finest clock that MPEG-4 Part 2 allows and that 24, 25, 29.97, 50 and 60 frames per second divide
_ENCODERS = {"libx264": {"crf": "23", "preset": "veryfast"}, "mpeg4": {"qmin": "3", "qmax": "6"}}
_KEYFRAME_S = 2.0
_FRAME_PX = 4


def write_annotated(path: Path, detection: AnomalyDetection, reader: VideoReader, advance: Callable[[int], None] = lambda n: None) -> None:
    """Writes an mp4 (H.264, yuv420p; MPEG-4 Part 2 where FFmpeg has no libx264) without sound; it appears whole or not at all.

    Frames keep their distances in time, however uneven; the first stands at 0, the clock in the picture shows the presentation time of
    the original. Frames inside an interval have a coloured border. Frames without a score say so. One frame is held at a time.

    Args:
        detection: what was found in the video, or in the part of it from start_s on.
        reader: that video, open.
        advance: called with 0 after every frame: still at work.

    Raises:
        VideoError: the video cannot be decoded again.
    """
    scores = detection.scores
    start, stop = np.searchsorted(reader.pts, [detection.start_s - 1e-6, detection.start_s + detection.duration_s - 1e-6])
    ticks = clock_ticks(reader.pts[start:stop], detection.start_s + detection.duration_s)
    short_side = min(max(min(reader.height, reader.width), SMALLEST_PX), LARGEST_PX)
    height, width = (size + size % 2 for size in scaled_size(reader.height, reader.width, short_side))
    panel = Panel(detection, width, height)
    av = import_av()
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = _stream(container, width, height + panel.height, detection.fps)
        for number, t, picture in reader.frames(int(start), int(stop), short_side):
            row = int(np.searchsorted(scores.frame, number))
            row = row if row < len(scores) and scores.frame[row] == number else None
            flagged = any(interval.start_s <= t < interval.end_s for interval in detection.intervals)
            heat = None if row is None or scores.heat is None else scores.heat[row]
            image = np.concatenate([_drawn(picture, height, width, heat, flagged), panel.draw(t, number, row, flagged)])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.duration, frame.time_base = *ticks[number - start], _TICK
            container.mux(stream.encode(frame))
            advance(0)
        container.mux(stream.encode())


def clock_ticks(pts: np.ndarray, end_s: float) -> list[tuple[int, int]]:
    """(position, length) of every frame in ticks of the written video, from 0; lengths are at least 1.

    Args:
        pts: (n,) increasing, seconds.
        end_s: where the last frame ends.
    """
    edges = np.rint((np.append(pts, end_s) - pts[0]) * float(1 / _TICK)).astype(np.int64)
    steps = np.arange(len(edges))
    edges = np.maximum.accumulate(edges - steps) + steps  # times that fall on one tick move apart
    return list(zip(edges[:-1].tolist(), np.diff(edges).tolist(), strict=True))


def _stream(container: "OutputContainer", width: int, height: int, fps: float) -> "VideoStream":
    available = import_av().codecs_available
    name = next(name for name in _ENCODERS if name in available or name == "mpeg4")
    stream = container.add_stream(name, rate=Fraction(fps or 25).limit_denominator(1001), options=dict(_ENCODERS[name]))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = stream.time_base = _TICK
    stream.codec_context.gop_size = max(1, round(_KEYFRAME_S * (fps or 25)))
    return stream


def _drawn(picture: np.ndarray, height: int, width: int, heat: np.ndarray | None, flagged: bool) -> np.ndarray:
    """(height, width, 3): the picture, its heat and, within an interval, a border; odd sizes grow by repeating the last row or column."""
    if heat is not None:
        picture = overlay(picture, heat)
    picture = np.pad(picture, ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)), mode="edge")
    if flagged:
        for edge in (picture[:_FRAME_PX], picture[-_FRAME_PX:], picture[:, :_FRAME_PX], picture[:, -_FRAME_PX:]):
            edge[:] = FLAGGED
    return picture
