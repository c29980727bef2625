"""When each sample of a sound stream is heard: runs of unbroken sound, found from the times of the decoded frames.

A container gives every frame of sound a time, rounded to its tick (1 ms in Matroska), sometimes with jitter, sometimes of a clock that
runs a little faster or slower than the samples. Samples are counted, and the count is tied to the times: one line through all of them
where the two clocks agree, a line that bends where they drift apart, a new run where the times jump.
"""

from dataclasses import dataclass, replace

import numpy as np

JUMP_S = (0.004, 0.010)  # where most of a frame is missing; what is below is rounding or jitter. At least, and for long frames at most
DRIFT_S = 0.002  # up to this much the clock of the samples is taken at its word
_NEAR = 8  # frames on either side that tell a jump from a single late one
_KNOT_S = 5.0


@dataclass(frozen=True)
class Run:
    """Sound without a hole.

    Attributes:
        first: number of its first sample, counted over everything that decodes;
        n: how many samples;
        rate: nominal, Hz.
        at, times: (K,) float64, K >= 2, increasing: sample number `at[k]` is heard at `times[k]` seconds; a straight line in between and
            beyond.
    """

    first: int
    n: int
    rate: int
    at: np.ndarray
    times: np.ndarray

    @property
    def start_s(self) -> float:
        """When its first sample is heard."""
        return float(_along(self.at, self.times, np.asarray(float(self.first))))

    @property
    def end_s(self) -> float:
        """When the sample after its last one would be heard."""
        return float(_along(self.at, self.times, np.asarray(float(self.first + self.n))))

    def position(self, seconds: np.ndarray) -> np.ndarray:
        """(n,) float64: the fractional sample number at each time in seconds."""
        return _along(self.times, self.at, seconds)


def _along(x: np.ndarray, y: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The broken line through (x, y) at `wanted`, continued straight on at both ends."""
    k = np.clip(np.searchsorted(x, wanted, side="right") - 1, 0, len(x) - 2)
    return y[k] + (wanted - x[k]) * (y[k + 1] - y[k]) / (x[k + 1] - x[k])


def find_runs(times: np.ndarray, counts: np.ndarray, rates: np.ndarray, tick_s: float) -> tuple[list[Run], float]:
    """Runs of unbroken sound, in order, without overlap.

    Args:
        times: (m,) float64, time of each decoded frame in seconds; NaN where it has none.
        counts: (m,) int64, samples in each.
        rates: (m,) int64, their sample rates, Hz.
        tick_s: what times are rounded to.

    Returns:
        the runs, and how many seconds of sound were left out because they overlap with sound before them.
    """
    runs: list[Run] = []
    begins = np.cumsum(counts) - counts
    for same in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(rates)) + 1):
        if not len(same):
            continue
        rate = int(rates[same[0]])
        ahead = _filled(times[same] - begins[same] / rate, runs[-1].end_s - begins[same[0]] / rate if runs else 0.0)
        for part in np.split(np.arange(len(same)), _jumps(ahead, float(np.median(counts[same])) / rate, tick_s)):
            frames = same[part]
            before = runs[-1] if runs and runs[-1].rate == rate else None
            runs.append(_run(int(begins[frames[0]]), int(counts[frames].sum()), rate, begins[frames], ahead[part], tick_s, before))
    return _without_overlap(runs)


def _filled(ahead: np.ndarray, before: float) -> np.ndarray:
    """Frames without a time follow on the frame before; those at the start on `before`, or back from the first time."""
    known = ~np.isnan(ahead)
    if not known.any():
        return np.full(len(ahead), before)
    last = np.maximum.accumulate(np.where(known, np.arange(len(ahead)), -1))
    return ahead[np.where(last < 0, int(np.argmax(known)), last)]


def _jumps(ahead: np.ndarray, frame_s: float, tick_s: float) -> list[int]:
    """Frames that begin a new run: their times and those of their successors step away from those before."""
    least = max(min(max(JUMP_S[0], 0.4 * frame_s), JUMP_S[1]), 2.5 * tick_s)
    steps = np.diff(ahead)
    found: list[int] = [0]
    for place in (np.flatnonzero(np.abs(steps) > least) + 1).tolist():
        before = np.median(ahead[max(found[-1], place - _NEAR) : place])
        after = np.median(ahead[place : place + _NEAR])
        if abs(after - before) > max(least, 0.5 * abs(steps[place - 1])):
            found.append(place)
    return found[1:]


def _run(first: int, n: int, rate: int, begins: np.ndarray, ahead: np.ndarray, tick_s: float, before: Run | None) -> Run:
    """The clock of one run.

    Args:
        begins: (m,) int64, number of the first sample of each frame.
        ahead: (m,) float64, time of each frame minus the time that counting samples from number 0 gives, seconds.
        before: the run before it, of the same rate.
    """
    blocks = min(len(ahead) // _NEAR, round(n / rate / _KNOT_S))
    at = np.asarray([first, first + n], np.float64)
    if blocks >= 2:
        means = np.asarray([part.mean() for part in np.array_split(ahead, blocks)])
        if np.ptp(means) > max(DRIFT_S, tick_s):
            at = np.asarray([part.mean() for part in np.array_split(begins.astype(np.float64), blocks)])
            return Run(first, n, rate, at, at / rate + means)
    likely = [ahead[0]]
    if before is not None:
        frame_s, base = float(np.median(np.diff(begins))) / rate if len(begins) > 1 else n / rate, before.end_s - first / rate
        likely.insert(0, base + round((ahead[0] - base) / frame_s) * frame_s)
    return Run(first, n, rate, at, at / rate + _offset(ahead, tick_s, likely))


def _offset(ahead: np.ndarray, tick_s: float, likely: list[float]) -> float:
    """What all times agree on, or their mean where they jitter by more than rounding.

    Times that differ by rounding only leave a small interval. Of that the likely values have the say: that whole frames are missing since
    the run before, and the first time, for files usually begin at a time that needs no rounding.
    """
    low, high = ahead.max() - tick_s / 2, ahead.min() + tick_s / 2
    if low > high + 1e-9:
        return float(ahead.mean())
    inside = [value for value in likely if low - 1e-9 <= value <= high + 1e-9]
    return float(inside[0] if inside else np.clip(likely[-1], low, high))


def _without_overlap(runs: list[Run]) -> tuple[list[Run], float]:
    kept: list[Run] = []
    lost_s, end_s = 0.0, -np.inf
    for run in runs:
        late = float(run.position(np.asarray(end_s))) - run.first if kept else 0.0
        cut = min(run.n, max(0, int(np.ceil(late - 0.5))))  # half a sample is rounding
        lost_s += cut / run.rate
        if cut < run.n:
            kept.append(replace(run, first=run.first + cut, n=run.n - cut))
            end_s = kept[-1].end_s
    return kept, lost_s
