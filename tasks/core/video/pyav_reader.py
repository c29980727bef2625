"""The exact reader: PyAV with a timestamp index."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.video.cache import index_of
from tasks.core.video.cursor import Cursor
from tasks.core.video.index import VideoIndex
from tasks.core.video.reader import VideoReader, scaled_size

if TYPE_CHECKING:
    import av


class PyavReader(VideoReader):
    """Random access that is right on every container, or says that it cannot.

    Args:
        path: a video file.
        threads: decoder threads; None lets FFmpeg choose.

    Raises:
        VideoError: missing, empty, no video, or no frame can be decoded.
    """

    backend = "pyav"

    def __init__(self, path: str | Path, threads: int | None = None):
        self.path = str(path)
        self.index: VideoIndex = index_of(self.path)
        self.n_frames = len(self.index.ticks)
        self.pts = self.index.seconds
        self.height, self.width = self.index.height, self.index.width
        self.fps = self.index.fps
        self.damage = self.index.damage
        self._cursor = Cursor(self.path, self.index, threads)

    def get(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        wanted = self._checked(indices)
        height, width = scaled_size(self.height, self.width, short_side)
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        order = np.argsort(wanted, kind="stable")
        previous = -1
        for place in order:
            if wanted[place] == wanted[previous] and previous >= 0:
                out[place] = out[previous]
            else:
                out[place] = to_rgb(self._cursor.fetch(int(wanted[place])), height, width, self.index.rotation)
            previous = place
        return out

    def frames(
        self, start: int = 0, stop: int | None = None, short_side: int | None = None
    ) -> Iterator[tuple[int, float, np.ndarray]]:
        height, width = scaled_size(self.height, self.width, short_side)
        for number in range(start, self.n_frames if stop is None else min(stop, self.n_frames)):
            yield number, float(self.pts[number]), to_rgb(self._cursor.fetch(number), height, width, self.index.rotation)

    def close(self) -> None:
        self._cursor.close()


def to_rgb(frame: "av.VideoFrame", height: int, width: int, rotation: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB of a decoded frame, scaled and turned by `rotation` degrees counter-clockwise."""
    turned = rotation % 180 != 0
    wide, high = (height, width) if turned else (width, height)
    way = "AREA" if wide < frame.width or high < frame.height else "BICUBIC"
    image = frame.reformat(width=wide, height=high, format="rgb24", interpolation=way).to_ndarray()
    return np.rot90(image, rotation // 90) if rotation else image
