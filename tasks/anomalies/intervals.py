"""From scores of frames to intervals: stretches of time in which something is anomalous."""

import numpy as np

from tasks.anomalies.result import FrameScores, Interval


def find(scores: FrameScores, threshold: float, end_s: float, min_duration_s: float = 0.0, join_gap_s: float = 0.0) -> list[Interval]:
    """Runs of frames that score at least `threshold`, in order of time.

    A frame lasts until the next one begins. Runs are joined first, then short ones are dropped, so that a flickering score does not
    fall apart into pieces that are each too short.

    Args:
        end_s: where the last frame ends, seconds.
        min_duration_s: intervals that last less are dropped.
        join_gap_s: runs with no more than this between them become one interval.
    """
    above = np.concatenate([[False], scores.score >= threshold, [False]])
    firsts, lasts = np.flatnonzero(above[1:] & ~above[:-1]), np.flatnonzero(above[:-1] & ~above[1:]) - 1
    ends = np.append(scores.t[1:], end_s)
    runs: list[list[int]] = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        if runs and _at_most(scores.t[first] - ends[runs[-1][1]], join_gap_s):
            runs[-1][1] = last
        else:
            runs.append([first, last])
    return [
        _interval(scores, first, last, float(ends[last])) for first, last in runs if _at_most(min_duration_s, ends[last] - scores.t[first])
    ]


def _at_most(left: float, right: float) -> bool:
    """Differences of times carry rounding errors far below a microsecond."""
    return left <= right + 1e-6


def _interval(scores: FrameScores, first: int, last: int, end_s: float) -> Interval:
    peak = first + int(np.argmax(scores.score[first : last + 1]))
    return Interval(
        start_s=float(scores.t[first]),
        end_s=end_s,
        start_frame=int(scores.frame[first]),
        end_frame=int(scores.frame[last]),
        peak=float(scores.score[peak]),
        peak_s=float(scores.t[peak]),
        peak_frame=int(scores.frame[peak]),
    )
