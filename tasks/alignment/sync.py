"""Without a model: one offset and one drift for all subtitles of a file, so that they are shown when somebody is heard.

The idea is that of ffsubsync (Macri, 2019): activity of the sound and of the subtitles as two binary sequences, their correlation for every
offset, for the few drifts that another frame rate brings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.audio.read import SoundReader
from tasks.core.errors import InputError

STEP_S = 0.01
RATE = 16_000
_FILM = (24.0, 25.0, 24000 / 1001)
RATIOS = sorted({1.0, *(round(a / b, 9) for a in _FILM for b in _FILM)})
"""Drifts: true time over the time in the file."""
_QUIET, _LOUD = 10, 95
"""Percentiles of the level between which the threshold of activity lies."""
_LEAST_DB = 6.0


@dataclass(frozen=True)
class Shift:
    """New time = ratio * old time + offset_s.

    Attributes:
        offset_s, ratio: as above.
        score: correlation of both activities, in [-1, 1].
    """

    offset_s: float
    ratio: float
    score: float

    def __call__(self, seconds: float) -> float:
        return max(0.0, self.ratio * seconds + self.offset_s)


def sound_activity(sound: SoundReader) -> np.ndarray:
    """(n,) float64, 1 where something is heard, for every STEP_S from the beginning of the pictures on.

    Raises:
        InputError: the sound is equally loud throughout, or silent.
    """
    hop = round(RATE * STEP_S)
    samples = sound.read()
    samples = samples[: len(samples) // hop * hop].reshape(-1, hop).astype(np.float64)
    level = 10 * np.log10(np.square(samples).mean(1) + 1e-10)
    quiet, loud = np.percentile(level, (_QUIET, _LOUD)) if len(level) else (0, 0)
    if loud - quiet < _LEAST_DB:
        raise InputError(f"{sound.path}: its sound is silent or equally loud throughout: it says nothing about when somebody speaks")
    return (level > (quiet + loud) / 2).astype(np.float64)


def text_activity(times: Sequence[tuple[float, float]], ratio: float, length: int) -> np.ndarray:
    """(length,) 1 where a subtitle is shown, its times multiplied by `ratio`."""
    shown = np.zeros(length)
    for start, end in times:
        shown[round(start * ratio / STEP_S) : round(end * ratio / STEP_S)] = 1
    return shown


def find_shift(activity: np.ndarray, times: Sequence[tuple[float, float]], begin_s: float, max_offset_s: float) -> Shift:
    """The offset and drift with the highest correlation of sound and subtitles.

    Args:
        activity: of `sound_activity`.
        times: of the subtitles, seconds.
        begin_s: time of the first value of `activity`.
        max_offset_s: the largest offset.
    """
    found = []
    reach = round(max_offset_s / STEP_S)
    for ratio in RATIOS:
        length = round(max(end for _, end in times) * ratio / STEP_S) + 1
        shown = text_activity(times, ratio, length)
        offsets, scores = _correlation(activity, shown)
        near = np.abs(offsets + round(begin_s / STEP_S)) <= reach
        if near.any():
            best = np.where(near, scores, -np.inf).argmax()
            found.append(Shift(float(offsets[best] * STEP_S + begin_s), ratio, float(scores[best])))
    return max(found, key=lambda shift: (round(shift.score, 2), -abs(shift.ratio - 1)))  # no drift where it hardly matters


def _correlation(activity: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every offset in steps, and the correlation of both there: heard and shown together more than by chance, over what could be."""
    size = 1 << (len(activity) + len(shown)).bit_length()
    together = np.fft.irfft(np.fft.rfft(activity, size) * np.conj(np.fft.rfft(shown, size)), size)
    offsets = np.arange(-len(shown) + 1, len(activity))
    share = activity.mean()  # before the beginning and after the end nothing is heard
    told = shown.sum() / len(activity)
    most = len(activity) * np.sqrt(share * (1 - share) * max(told * (1 - told), share / len(activity)))
    return offsets, (together[offsets % size] - share * shown.sum()) / max(most, 1e-12)
