"""One interface over everything that can be read as a video: files through PyAV or decord, and folders of pictures."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from tasks.core.errors import InputError


class VideoError(InputError):
    """A video that cannot be read.

    Attributes:
        path: the file or folder.
        reason: what is wrong with it, without the path.
    """

    def __init__(self, path: str | Path, reason: str, hint: str | None = None):
        super().__init__(f"{path}: {reason}", hint)
        self.path = str(path)
        self.reason = reason
        self._hint = hint

    def __reduce__(self):
        return type(self), (self.path, self.reason, self._hint)


class VideoReader(ABC):
    """An open video. Frame i is the i-th frame that a decoder puts out from the start (display order).

    Attributes:
        path: the file or folder.
        backend: `pyav`, `decord` or `frames`.
        n_frames: how many frames can really be decoded.
        pts: (n_frames,) float64, presentation time of each frame in seconds, increasing; frame 0 may be above 0.
        height, width: of the picture with its rotation applied, px; non-square pixels are not stretched.
        fps: average frames per second; for information only, times come from `pts`.
        damage: why the video is shorter than its file promises, or None.
    """

    path: str
    backend: str
    n_frames: int
    pts: np.ndarray
    height: int
    width: int
    fps: float
    damage: str | None = None

    @abstractmethod
    def get(self, indices: Sequence[int] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        """Frames by number, in the order asked for; a number may occur several times.

        Args:
            indices: (T,) integers in [0, n_frames).
            short_side: scale so that the shorter side has this many px; None: as decoded.

        Returns:
            (T, H, W, 3) uint8 RGB.

        Raises:
            VideoError: the frames cannot be decoded.
            IndexError: a number lies outside the video.
        """

    @abstractmethod
    def frames(self, start: int = 0, stop: int | None = None, short_side: int | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
        """Stream (number, time in seconds, (H, W, 3) uint8 RGB) for start <= number < stop in bounded memory."""

    def get_at(self, seconds: Sequence[float] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        """The frames shown at these times; times before the first or after the last frame give that frame.

        Args:
            seconds: (T,) presentation times.

        Returns:
            (T, H, W, 3) uint8 RGB.
        """
        return self.get(frames_shown_at(self.pts, seconds), short_side)

    @abstractmethod
    def close(self) -> None:
        """Give back files and decoders; the reader is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.n_frames

    def _checked(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.n_frames):
            raise IndexError(f"{self.path}: frame {wanted.max() if wanted.min() >= 0 else wanted.min()} of {self.n_frames}")
        return wanted


def frames_shown_at(pts: np.ndarray, seconds: Sequence[float] | np.ndarray) -> np.ndarray:
    """The number of the frame on screen at each time: the last with pts <= time (1 microsecond of grace), clamped; (T,) int64."""
    found = np.searchsorted(pts, np.asarray(seconds, dtype=np.float64) + 1e-6, side="right") - 1
    return np.clip(found, 0, len(pts) - 1)


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) after scaling the shorter side to `short_side` px with the aspect ratio kept."""
    if short_side is None or short_side == min(height, width):
        return height, width
    if height <= width:
        return short_side, max(1, round(width * short_side / height))
    return max(1, round(height * short_side / width)), short_side
