"""Reading sound: mono float32 at any rate, on the presentation clock of the file's pictures."""

import os
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Literal, Self

import numpy as np

from tasks.core.audio.decode import SoundCursor
from tasks.core.audio.index import NO_SOUND, SoundIndex, sound_index_of
from tasks.core.audio.resample import interpolate, reach
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

BLOCK_S = 10.0
SILENCE_HINT = "silence can stand in its place: --silence, missing='silence'"
_GRACE = 1e-6  # of a sample: a part does not get one more because its end is written in floating point


def open_sound(path: str | Path, rate: int = 16_000, missing: Literal["error", "silence"] = "error") -> "SoundReader":
    """Open the sound of a video or sound file.

    Args:
        path: the file; of several sound streams the first is read.
        rate: samples per second that come out, Hz.
        missing: what a file without sound is: an error, or silence for as long as its pictures last.

    Raises:
        VideoError: no such file, not one of pictures or sound, damaged beyond use, or without sound where that is an error.
    """
    path = str(path)
    if os.path.isdir(path):
        return SoundReader(path, rate, _of_pictures(path, missing))
    index = sound_index_of(path)
    if not index.runs and (missing == "error" or index.picture is None):
        raise VideoError(path, "has no sound", SILENCE_HINT)
    return SoundReader(path, rate, index)


class SoundReader:
    """An open sound. Sample k of a part is the sound at `start_s + k / rate` on the clock that the times of the video's frames are on.

    Before the sound begins, after it ends and where something is missing in the middle there is silence; sound that overlaps with sound
    before it is left out. The channels are averaged. Frequencies above the lower of the two Nyquist frequencies are removed.

    Attributes:
        path: the file.
        rate: Hz.
        has_sound: False where silence stands for it.
        start_s, end_s: the part that is read unless another is asked for: where there are pictures, from the first to the end of the last,
            so that features of sound and pictures begin at the same time; else the sound itself.
        sound: when the sound itself begins and ends, seconds; None: there is none.
        damage: what is missing and why, or None.
    """

    def __init__(self, path: str, rate: int, index: SoundIndex):
        self.path, self.rate, self.index = path, rate, index
        self.has_sound, self.damage = bool(index.runs), index.damage
        self.sound = (index.runs[0].start_s, index.runs[-1].end_s) if index.runs else None
        self.start_s, self.end_s = index.picture or self.sound
        edges = np.asarray([2 * reach(run.rate, rate) / run.rate for run in index.runs])
        self._starts = np.asarray([run.start_s for run in index.runs]) - edges
        self._ends = np.asarray([run.end_s for run in index.runs]) + edges
        self._cursor = SoundCursor(path, index)

    def read(self, start_s: float | None = None, end_s: float | None = None) -> np.ndarray:
        """(n,) float32, nominally in [-1, 1]: the part start_s <= t < end_s, n = ceil((end_s - start_s) * rate)."""
        parts = list(self.blocks(start_s, end_s))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def blocks(self, start_s: float | None = None, end_s: float | None = None, block_s: float = BLOCK_S) -> Iterator[np.ndarray]:
        """`read` piece by piece, in bounded memory; the pieces joined are what `read` returns, bit for bit.

        Args:
            start_s, end_s: presentation times in seconds; None: as the attributes say. They may lie outside of the sound.
            block_s: length of a piece; the last one is shorter.

        Raises:
            VideoError: the file no longer holds what was found in it when it was opened.
        """
        start_s = self.start_s if start_s is None else start_s
        end_s = self.end_s if end_s is None else end_s
        n, size = max(0, ceil((end_s - start_s) * self.rate - _GRACE)), max(1, round(block_s * self.rate))
        for begin in range(0, n, size):
            yield self._block(start_s + np.arange(begin, min(begin + size, n)) / self.rate)

    def _block(self, times: np.ndarray) -> np.ndarray:
        """(n,) float32: the sound at these evenly spaced times."""
        out = np.zeros(len(times), np.float32)
        for number in np.flatnonzero((self._ends > times[0]) & (self._starts < times[-1])).tolist():
            run = self.index.runs[number]
            half = reach(run.rate, self.rate)
            at = run.position(times)
            heard = slice(*np.searchsorted(at, [run.first - half, run.first + run.n + half]))
            if heard.start == heard.stop:
                continue
            at = at[heard]
            first = max(run.first, int(at[0]) - half)
            stop = min(run.first + run.n, int(at[-1]) + half + 2)
            if first < stop:
                out[heard] += interpolate(self._cursor.read(first, stop), at, run.rate, self.rate, first)
        return out

    def close(self) -> None:
        """Give back the file; the reader is not used afterwards."""
        self._cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _of_pictures(path: str, missing: str) -> SoundIndex:
    """What stands for the sound of a folder of pictures: nothing, or silence."""
    if missing == "error":
        raise VideoError(path, "a folder of pictures has no sound", SILENCE_HINT)
    with open_video(path) as pictures:
        return replace(NO_SOUND, picture=(float(pictures.pts[0]), float(pictures.pts[-1] + 1 / pictures.fps)))
