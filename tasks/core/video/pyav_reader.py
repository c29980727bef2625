"""The exact reader: PyAV with a timestamp index."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.core.video.cache import index_of
from tasks.core.video.cursor import Cursor
from tasks.core.video.index import VideoIndex
from tasks.core.video.media import import_av, plain
from tasks.core.video.reader import VideoError, VideoReader, scaled_size

if TYPE_CHECKING:
    import av


SMALL_PX = 1_000_000  # below this size handing frames between decoder threads costs more than it saves


class PyavReader(VideoReader):
    """Random access that is right on every container, or says that it cannot.

    Args:
        path: a video file.
        threads: decoder threads; None: one for small pictures, else FFmpeg's choice.

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
        small = self.height * self.width < SMALL_PX
        self._cursor = Cursor(self.path, self.index, 1 if threads is None and small else threads)
        self._scaler = import_av().video.reformatter.VideoReformatter()  # one for all frames: setting it up costs more than using it

    def get(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        wanted = self._checked(indices)
        height, width = scaled_size(self.height, self.width, short_side)
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        order = np.argsort(wanted, kind="stable")
        self._cursor.expect(wanted)
        previous = -1
        for place in order:
            if wanted[place] == wanted[previous] and previous >= 0:
                out[place] = out[previous]
            else:
                out[place] = self._picture(int(wanted[place]), height, width)
            previous = place
        return out

    def frames(self, start: int = 0, stop: int | None = None, short_side: int | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
        height, width = scaled_size(self.height, self.width, short_side)
        self._cursor.expect(None)
        for number in range(start, self.n_frames if stop is None else min(stop, self.n_frames)):
            yield number, float(self.pts[number]), self._picture(number, height, width)

    def _picture(self, number: int, height: int, width: int) -> np.ndarray:
        frame = self._cursor.fetch(number)
        try:
            return to_rgb(frame, height, width, self.index.rotation, self._scaler)
        except (OSError, ValueError) as error:  # FFmpeg's own errors are ValueErrors or OSErrors
            raise VideoError(self.path, f"frame {number} cannot be converted to RGB ({plain(error)})") from None

    def close(self) -> None:
        self._cursor.close()


def to_rgb(
    frame: "av.VideoFrame", height: int, width: int, rotation: int, scaler: "av.video.reformatter.VideoReformatter | None" = None
) -> np.ndarray:
    """(height, width, 3) uint8 RGB of a decoded frame, scaled and turned by `rotation` degrees counter-clockwise.

    Args:
        scaler: kept by the caller from frame to frame; the result does not depend on it.
    """
    wide, high = (height, width) if rotation % 180 else (width, height)
    way = "AREA" if wide < frame.width or high < frame.height else "BICUBIC"
    settings = {"width": wide, "height": high, "format": "rgb24", "interpolation": way}
    image = (scaler.reformat(frame, **settings) if scaler else frame.reformat(**settings)).to_ndarray()
    return np.rot90(image, rotation // 90) if rotation else image


def scaled(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 of an (H, W, 3) uint8 picture, by the scaler that the reader uses."""
    return to_rgb(import_av().VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"), height, width, 0)
