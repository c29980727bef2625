"""Several streams of features as windows on the grid of the first, of a video of any length: what is behind is let go."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np

from tasks.core.data.features import Features
from tasks.core.data.grid import Grid
from tasks.core.data.streams import resample

Stream = tuple[Grid, Iterator[np.ndarray]]
"""Where the features of a stream lie, and the features (n, d), block after block."""


@dataclass(frozen=True)
class Window:
    """Neighbouring features of a video.

    Attributes:
        first: number of the first among all features of the video.
        streams: name -> (L, d) float32, zeros where a further stream has nothing.
        counted: [low, high), counted from `first`: of several windows that see a feature, in this one it is farthest from the ends.
        final: the video ends with this window.
    """

    first: int
    streams: dict[str, np.ndarray]
    counted: tuple[int, int]
    final: bool

    @property
    def length(self) -> int:
        """Features of each stream."""
        return len(next(iter(self.streams.values())))


class Held:
    """The part of a stream that is still needed.

    Args:
        stream: of which nothing has been read.
    """

    def __init__(self, stream: Stream):
        self.grid, self._blocks = stream
        self._first, self._values, self._ended = 0, None, False

    def pull(self, stop: int) -> int:
        """Reads until `stop` features are behind or the stream ends; returns how many of all there are up to here."""
        while not self._ended and self._stop < stop:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
            else:
                self._values = block if self._values is None else np.concatenate([self._values, block])
        return self._stop

    @property
    def _stop(self) -> int:
        return self._first + (0 if self._values is None else len(self._values))

    def drop(self, before: int) -> None:
        """Lets go of what is before a number."""
        behind = min(max(0, before - self._first), self._stop - self._first)
        if behind:
            self._values, self._first = self._values[behind:].copy(), self._first + behind

    def part(self, first: int, stop: int) -> np.ndarray:
        """Features first to stop - 1, which must be held."""
        return self._values[first - self._first : stop - self._first]

    def at(self, t: np.ndarray) -> np.ndarray:
        """(L, d) float32: the features at these times (increasing, seconds), between the two around; zeros where there is nothing."""
        low, high = (self.grid.index_of(t[place]) for place in (0, -1))
        self.pull(math.ceil(high) + 2)
        self.drop(math.floor(low) - 1)
        if self._values is None or not len(self._values):
            raise ValueError("a stream without features")
        grid = Grid(self.grid.stride_s, self.grid.span_s, self.grid.offset_s + self._first * self.grid.stride_s)
        return resample(Features(self._values, grid), t, "linear")[0]


def windows(streams: Mapping[str, Stream], length: int | None, hop: int) -> Iterator[Window]:
    """Windows of a video, in order, `hop` apart; the last one ends with it and may be shorter.

    Args:
        streams: the first sets the grid; nothing of them has been read.
        length: features of a window; a shorter video is one window. None: all of it is one.
        hop: at most `length`.
    """
    (main, lead), *others = ((name, Held(stream)) for name, stream in streams.items())
    for first in count(0, hop):
        held = lead.pull(sys.maxsize if length is None else first + length + 1)
        final = length is None or held <= first + length
        stop = held if final else first + length
        found = {main: np.asarray(lead.part(first, stop), np.float32)}
        centers = lead.grid.centers(stop)[first:]
        found |= {name: stream.at(centers) for name, stream in others}
        margin = 0 if length is None else (length - hop) // 2
        counted = (0 if first == 0 else margin, stop - first if final else hop + margin)
        yield Window(first, found, counted, final)
        if final:
            return
        lead.drop(first + hop)
