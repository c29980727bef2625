"""Videos with something drawn into their frames: times stay as they were, however uneven."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.files import replacing
from tasks.core.video.media import import_av
from tasks.core.video.reader import scaled_size

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SMALLEST_PX, LARGEST_PX = 240, 720
"""The shorter side of the picture is brought into this range: below it the letters have no room, above it nobody sees more."""
_TICK = Fraction(1, 60000)  # the finest clock that MPEG-4 Part 2 allows and that 24, 25, 29.97, 50 and 60 frames per second divide
_ENCODERS = {"libx264": {"crf": "23", "preset": "veryfast"}, "mpeg4": {"qmin": "3", "qmax": "6"}}
_KEYFRAME_S = 2.0


def picture_size(height: int, width: int) -> tuple[int, int, int]:
    """(short side to read a video at, height and width of its pictures in the annotated one, even), px."""
    short_side = min(max(min(height, width), SMALLEST_PX), LARGEST_PX)
    height, width = (size + size % 2 for size in scaled_size(height, width, short_side))
    return short_side, height, width


def evened(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A copy of a picture `(h, w, 3)` that has grown to `(height, width, 3)` by repeating its last row or column."""
    return np.pad(picture, ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)), mode="edge")


def write_images(path: Path, images: Iterable[np.ndarray], pts: np.ndarray, end_s: float, fps: float) -> None:
    """Writes an mp4 (H.264, yuv420p; MPEG-4 Part 2 where FFmpeg has no libx264) without sound; it appears whole or not at all.

    One image is held at a time.

    Args:
        images: n of `(H, W, 3)` uint8 RGB, all of one even size.
        pts: (n,) increasing, seconds, n >= 1; frames keep their distances, the first stands at 0.
        end_s: where the last frame ends.
        fps: about how many frames a second has; 0: unknown.
    """
    av = import_av()
    images = iter(images)
    with replacing(path) as temporary:
        first = next(images)
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = _stream(container, *first.shape[1::-1], fps)
            for image, ticks in zip(chain([first], images), clock_ticks(pts, end_s), strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.duration, frame.time_base = *ticks, _TICK
                container.mux(stream.encode(frame))
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
