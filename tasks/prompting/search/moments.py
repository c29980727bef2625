"""From the scores of windows to moments: neighbouring windows of one event are one result."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.data.grid import Grid

KEPT = 0.75
"""Share of what a moment has above the median of all windows that the windows around it keep."""


@dataclass(frozen=True)
class Span:
    """The windows of one video among all windows.

    Attributes:
        first, n: places of its windows, `first` to `first + n`.
        grid: when they are.
        until_s: end of the video; None: unknown.
    """

    first: int
    n: int
    grid: Grid
    until_s: float | None = None

    def begin_s(self, window: int) -> float:
        """Of a window of this video, counted from 0."""
        return self.grid.offset_s + window * self.grid.stride_s

    def end_s(self, window: int) -> float:
        """Of a window, which holds until the next one begins, within the video."""
        end = self.begin_s(window) + max(self.grid.stride_s, self.grid.span_s)
        return end if self.until_s is None else max(self.begin_s(window), min(end, self.until_s))


@dataclass(frozen=True)
class Moment:
    """A part of a video that was found.

    Attributes:
        video: number of its span.
        start_s, end_s: of the windows around the best one that are nearly as good.
        at_s: the middle of what the best window saw.
        score: of the best window.
    """

    video: int
    start_s: float
    end_s: float
    at_s: float
    score: float


def moments(scores: np.ndarray, spans: Sequence[Span], top: int, apart_s: float, one_each: bool = False) -> list[Moment]:
    """The best moments, in descending order of their scores; of equal ones that which comes first.

    A moment is a window that is farther than `apart_s` from every better moment of its video, and reaches as far as its neighbours keep
    three quarters (`KEPT`) of what it has above the median of all windows.

    Args:
        scores: (N,) float; -inf: never shown.
        spans: of the videos, by increasing places.
        top: moments at most.
        apart_s: distance from a moment, seconds, within which there is no other one.
        one_each: of a video its best moment only.
    """
    firsts = np.array([span.first for span in spans], np.int64)
    found: list[Moment] = []
    taken: dict[int, list[tuple[float, float]]] = defaultdict(list)
    usual = float(np.median(scores[np.isfinite(scores)])) if np.isfinite(scores).any() else 0.0
    done, wanted = 0, min(len(scores), max(64, 16 * top))
    while done < len(scores) and len(found) < top:
        for place in _best(scores, wanted)[done:].tolist():
            if not np.isfinite(scores[place]):
                return found
            video = int(np.searchsorted(firsts, place, side="right")) - 1
            span, window = spans[video], place - int(firsts[video])
            begin, end = span.begin_s(window), span.end_s(window)
            if any(begin <= b + apart_s and end >= a - apart_s for a, b in taken[video]) or (one_each and taken[video]):
                continue
            own = scores[span.first : span.first + span.n]
            low, high = _reach(own, window, usual + KEPT * (float(scores[place]) - usual))
            moment = Moment(video, span.begin_s(low), span.end_s(high), begin + span.grid.span_s / 2, float(scores[place]))
            taken[video].append((moment.start_s, moment.end_s))
            found.append(moment)
            if len(found) == top:
                return found
        done, wanted = wanted, min(len(scores), 4 * wanted)
    return found


def _best(scores: np.ndarray, n: int) -> np.ndarray:
    """Places of the n highest scores, descending; of equal scores the first place first."""
    if n < len(scores):
        least = -np.partition(-scores, n - 1)[n - 1]
        above = np.flatnonzero(scores > least)
        chosen = np.concatenate([above, np.flatnonzero(scores == least)[: n - len(above)]])
    else:
        chosen = np.arange(len(scores))
    return chosen[np.lexsort((chosen, -scores[chosen]))]


def _reach(own: np.ndarray, peak: int, level: float) -> tuple[int, int]:
    """First and last window of a video around a peak that score above a level."""
    below = np.flatnonzero(own <= level)
    before, behind = below[below < peak], below[below > peak]
    return int(before[-1]) + 1 if len(before) else 0, int(behind[0]) - 1 if len(behind) else len(own) - 1
