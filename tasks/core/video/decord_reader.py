"""decord behind the reader interface: used where it has been shown exact, or where it is asked for by name."""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.core.errors import InputError
from tasks.core.video.cache import decord_verdict, index_of, keep_decord_verdict
from tasks.core.video.pyav_reader import PyavReader, scaled
from tasks.core.video.reader import VideoError, VideoReader, scaled_size

# decord 0.6 hangs or cannot open much else; nothing outside this list is ever given to it by `auto` or by a check.
CONTAINERS = ("mov", "matroska", "avi")
CODECS = ("h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg")
_CHUNK = 32


def proven(path: str | Path, said: bool | None = None) -> bool:
    """Whether `auto` may use decord on this file: it is installed, and a manifest or the cache says that it is exact there."""
    if said is False or importlib.util.find_spec("decord") is None:
        return False
    return bool(said) or decord_verdict(path) is True


def may_try(container: str, codec: str) -> bool:
    """Whether decord can be trusted to open such a file at all."""
    return container in CONTAINERS and codec in CODECS


class DecordReader(VideoReader):
    """Frames through decord; numbers and times come from the exact index, which decord's own count must agree with.

    Args:
        path: a video file. threads: of the decoder; None: decord's choice.
        or_pyav: where decord fails later on, go on with PyAV and keep decord from the file. It was judged by some frames and with one
            thread, and fails on sound VP9 with several.

    Raises:
        VideoError: decord cannot open the file or counts other frames than there are.
        InputError: decord is not installed.
    """

    backend = "decord"

    def __init__(self, path: str | Path, threads: int | None = None, or_pyav: bool = False):
        try:
            import decord
        except ImportError as error:
            raise InputError("the decoder 'decord' needs the package 'decord'", "pip install decord, or use the decoder 'pyav'") from error
        self._decord, self._threads, self._or_pyav = decord, threads, or_pyav
        self._instead: PyavReader | None = None
        decord.logging.set_level(decord.logging.QUIET)
        self.path = str(path)
        index = index_of(self.path)
        if index.damage or not may_try(index.container, index.codec):
            why = index.damage or f"{index.codec} in {index.container}"
            raise VideoError(path, f"not readable with decord ({why})", "use the decoder 'pyav'")
        self.n_frames, self.pts, self.fps = len(index.ticks), index.seconds, index.fps
        self.height, self.width = index.height, index.width
        try:
            self._reader = decord.VideoReader(self.path, num_threads=threads or 0)
            shape = self._reader[0].shape
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            raise self._objection(error) from None
        if len(self._reader) != self.n_frames or tuple(shape[:2]) != (self.height, self.width):
            counted = f"{len(self._reader)} frames of {shape[1]}x{shape[0]}"
            raise VideoError(
                path, f"decord sees {counted}, there are {self.n_frames} of {self.width}x{self.height}", "use the decoder 'pyav'"
            )

    def _objection(self, error: Exception) -> VideoError:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return VideoError(self.path, f"decord cannot read it ({first})", "use the decoder 'pyav'")

    def get(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        if self._instead is not None:
            return self._instead.get(indices, short_side)
        wanted = self._checked(indices)
        height, width = scaled_size(self.height, self.width, short_side)
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        if not len(wanted):
            return out
        try:
            pictures = self._reader.get_batch(wanted.tolist()).asnumpy()
        except (self._decord.DECORDError, RuntimeError) as error:
            if not self._or_pyav:
                raise self._objection(error) from None
            keep_decord_verdict(self.path, False)
            self._reader, self._instead, self.backend = None, PyavReader(self.path, self._threads), PyavReader.backend
            return self._instead.get(wanted, short_side)
        if (height, width) == (self.height, self.width):
            return pictures
        # decord's own scaling fails for widths that are no multiple of 32
        for place, picture in zip(out, pictures, strict=True):
            place[:] = scaled(picture, height, width)
        return out

    def frames(self, start: int = 0, stop: int | None = None, short_side: int | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
        stop = self.n_frames if stop is None else min(stop, self.n_frames)
        for first in range(start, stop, _CHUNK):
            numbers = range(first, min(first + _CHUNK, stop))
            for number, image in zip(numbers, self.get(list(numbers), short_side), strict=True):
                yield number, float(self.pts[number]), image

    def close(self) -> None:
        self._reader = None
        if self._instead is not None:
            self._instead.close()
