"""decord behind the reader interface, for those who ask for it by name: it is not faster than PyAV here, and exact on some files only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.core.errors import InputError
from tasks.core.video.cache import index_of
from tasks.core.video.pyav_reader import scaled
from tasks.core.video.quirks import Trait, applies
from tasks.core.video.reader import VideoError, VideoReader, scaled_size

_CHUNK = 32


class DecordReader(VideoReader):
    """Frames through decord; numbers and times come from the exact index, which decord's own count must agree with.

    Args:
        path: a video file.
        threads: of the decoder; None: decord's choice.

    Raises:
        VideoError: decord cannot open the file or counts other frames than there are.
        InputError: decord is not installed.
    """

    backend = "decord"

    def __init__(self, path: str | Path, threads: int | None = None):
        try:
            import decord
        except ImportError as error:
            raise InputError("the decoder 'decord' needs the package 'decord'", "pip install decord, or use the decoder 'pyav'") from error
        self._decord = decord
        decord.logging.set_level(decord.logging.QUIET)
        self.path = str(path)
        index = index_of(self.path)
        if index.damage or not applies(Trait.DECORD, index.container, index.codec):
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
        wanted = self._checked(indices)
        height, width = scaled_size(self.height, self.width, short_side)
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        if not len(wanted):
            return out
        try:
            pictures = self._reader.get_batch(wanted.tolist()).asnumpy()
        except (self._decord.DECORDError, RuntimeError) as error:
            raise self._objection(error) from None
        if (height, width) == (self.height, self.width):
            return pictures
        # decord's own scaling fails for widths that are not a multiple of 32
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
