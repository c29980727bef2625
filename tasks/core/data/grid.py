"""The regular grid on which the features of a video lie in time."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.core.errors import UsageError

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Grid:
    """Feature i sees the part [offset_s + i * stride_s, offset_s + i * stride_s + span_s) of a video, in presentation time.

    Attributes:
        stride_s: seconds from one feature to the next, above 0.
        span_s: seconds that a feature sees, not negative.
        offset_s: presentation time at which the first feature begins, seconds; may be negative.

    Raises:
        UsageError: a value is not finite or out of range.
    """

    stride_s: float
    span_s: float
    offset_s: float = 0.0

    def __post_init__(self):
        for name in ("stride_s", "span_s", "offset_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise UsageError(f"the {name} of a grid of features is {value!r}, not a number of seconds")
            object.__setattr__(self, name, float(value))
        if self.stride_s <= 0 or self.span_s < 0:
            raise UsageError(f"a grid of features cannot have {self}", "its stride is above 0 s, its span not below 0 s")

    def __str__(self) -> str:
        return f"stride {self.stride_s:g} s, span {self.span_s:g} s, offset {self.offset_s:g} s"

    def times(self, n: int) -> np.ndarray:
        """(n, 2) float64: begin and end of what each of n features sees, seconds."""
        begins = self.offset_s + self.stride_s * np.arange(n, dtype=np.float64)
        return np.stack([begins, begins + self.span_s], 1)

    def centers(self, n: int) -> np.ndarray:
        """(n,) float64: the middle of what each of n features sees, seconds."""
        return self.offset_s + self.span_s / 2 + self.stride_s * np.arange(n, dtype=np.float64)

    def index_of(self, t: float | np.ndarray) -> float | np.ndarray:
        """The (fractional) number of the feature whose middle is at t seconds: `index_of(centers(n))` is 0, 1, ... n - 1."""
        return (t - self.offset_s - self.span_s / 2) / self.stride_s

    def part(self, n: int, start_s: float | None, end_s: float | None) -> tuple[int, int]:
        """Numbers [first, last + 1) of those of n features whose middle lies in [start_s, end_s); at least one, the nearest to its middle.

        Args:
            n: features of the video, at least 1.
            start_s, end_s: presentation time, seconds; None: from the first, to the last.
        """
        low = 0 if start_s is None else math.ceil(self.index_of(start_s) - _TOLERANCE)
        high = n if end_s is None else math.ceil(self.index_of(end_s) - _TOLERANCE)
        low, high = max(0, low), min(n, high)
        if high > low:
            return low, high
        first, last = self.centers(n)[[0, -1]]
        middle = ((first if start_s is None else start_s) + (last if end_s is None else end_s)) / 2
        nearest = min(n - 1, max(0, round(self.index_of(middle))))
        return nearest, nearest + 1

    def same_steps(self, other: "Grid") -> bool:
        """Whether another grid has the same stride and span; where each begins does not matter."""
        return same_s(self.stride_s, other.stride_s) and same_s(self.span_s, other.span_s)

    def facts(self) -> dict[str, Any]:
        """As plain numbers, for JSON."""
        return {"stride_s": self.stride_s, "span_s": self.span_s, "offset_s": self.offset_s}


def same_s(first: float, second: float) -> bool:
    """Whether two lengths in seconds are the same but for rounding."""
    return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=1e-9)
