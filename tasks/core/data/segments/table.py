"""Events of many videos as columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EventTable:
    """One row for each event, in the order of its file.

    Attributes:
        video: names of the videos.
        label: names of the classes.
        segment: (N, 2) float64, start and end in seconds.
        score: (N,) float64, the higher the surer; zeros where it is the truth.
    """

    video: Sequence[str]
    label: Sequence[str]
    segment: np.ndarray
    score: np.ndarray

    @classmethod
    def of(
        cls,
        video: Sequence[str],
        label: Sequence[str],
        segment: Sequence[Sequence[float]] | np.ndarray,
        score: Sequence[float] | np.ndarray | None = None,
    ) -> "EventTable":
        """From columns of any kind; without scores it is the truth.

        Raises:
            ValueError: the columns are not of one length.
        """
        bounds = np.asarray(segment, np.float64).reshape(-1, 2)
        scores = np.zeros(len(bounds)) if score is None else np.asarray(score, np.float64)
        if not len(video) == len(label) == len(bounds) == len(scores):
            raise ValueError(f"{len(video)} videos, {len(label)} labels, {len(bounds)} segments and {len(scores)} scores")
        return cls(video, label, bounds, scores)

    def __len__(self) -> int:
        return len(self.segment)

    def keep(self, mask: np.ndarray) -> "EventTable":
        """The rows where the (N,) bool mask says so."""
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        return EventTable([self.video[i] for i in rows], [self.label[i] for i in rows], self.segment[rows], self.score[rows])


def codes(names: Sequence[str], known: dict[str, int]) -> np.ndarray:
    """(N,) int64 numbers of names; new names get the next number in `known`."""
    return np.fromiter((known.setdefault(name, len(known)) for name in names), np.int64, len(names))
