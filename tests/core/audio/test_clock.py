"""Runs of unbroken sound from the times of frames."""

import numpy as np
import pytest

from tasks.core.audio.clock import find_runs

RATE, FRAME = 44_100, 1024


def runs_of(times, tick_s=1e-3, counts=None, rates=None):
    n = len(times)
    counts = np.full(n, FRAME) if counts is None else np.asarray(counts)
    rates = np.full(n, RATE) if rates is None else np.asarray(rates)
    return find_runs(np.asarray(times, np.float64), counts, rates, tick_s)


def even(n, start_s=0.0, rate=RATE):
    return start_s + np.arange(n) * FRAME / rate


def rounded(times, tick_s=1e-3):
    return np.round(times / tick_s) * tick_s


@pytest.mark.parametrize("start_s", [0.0, 1.2345, -0.0232])
def test_rounded_times_become_one_straight_run(start_s):
    (run,), lost = runs_of(rounded(even(200, start_s)))
    assert (run.first, run.n, lost) == (0, 200 * FRAME, 0.0)
    assert run.start_s == pytest.approx(start_s, abs=1 / RATE)
    assert run.position(np.asarray([start_s + 1.0]))[0] == pytest.approx(RATE, abs=1)
    assert run.end_s - run.start_s == pytest.approx(run.n / RATE, abs=1e-9)


def test_times_that_need_no_rounding_are_taken_at_their_word():
    (run,), _ = runs_of(even(100, 0.25), tick_s=1 / RATE)
    assert run.start_s == 0.25


@pytest.mark.parametrize("missing", [1, 2, 40])
def test_a_lost_frame_is_a_hole(missing):
    times = rounded(np.delete(even(200), slice(100, 100 + missing)))
    (first, second), lost = runs_of(times)
    assert (first.first, first.n, second.first, second.n) == (0, 100 * FRAME, 100 * FRAME, (100 - missing) * FRAME)
    assert second.start_s - first.end_s == pytest.approx(missing * FRAME / RATE, abs=2e-4)
    assert lost == 0


def test_one_late_frame_and_jitter_are_no_holes():
    times = even(400)
    times[200] += 0.015
    (run,), _ = runs_of(rounded(times))
    assert run.n == 400 * FRAME
    jitter = np.random.default_rng(0).uniform(-0.006, 0.006, 400)
    (run,), _ = runs_of(rounded(even(400) + jitter))
    assert run.start_s == pytest.approx(0, abs=1.5e-3)


def test_what_overlaps_is_left_out():
    times = np.concatenate([even(100), even(100, 100 * FRAME / RATE - 0.5)])
    (first, second), lost = runs_of(times, tick_s=1e-5)
    assert first.n == 100 * FRAME
    assert second.start_s == pytest.approx(first.end_s, abs=1 / RATE)
    assert lost == pytest.approx(0.5, abs=2 / RATE)
    assert second.position(np.asarray([times[100] + 1.0]))[0] == pytest.approx(100 * FRAME + RATE, abs=0.5)  # the rest stays where it was
    (only,), lost = runs_of(np.concatenate([even(100), even(20)]), tick_s=1e-5)
    assert only.n == 100 * FRAME
    assert lost == pytest.approx(20 * FRAME / RATE)


@pytest.mark.parametrize("off", [2e-4, -1e-3, 44_100 / 48_000 - 1])
def test_a_clock_that_drifts_is_followed(off):
    times = even(4000) * (1 + off)
    (run,), _ = runs_of(rounded(times))
    wanted = np.linspace(0, times[-1], 500)
    assert run.position(wanted) == pytest.approx(wanted / (1 + off) * RATE, abs=0.0003 * RATE)


def test_a_clock_that_agrees_is_not_bent():
    (run,), _ = runs_of(rounded(even(4000) * (1 + 1e-5)))  # 0.9 ms in a minute and a half
    assert len(run.at) == 2


def test_another_rate_begins_another_run():
    n = 50
    start = n * FRAME / 44_100
    times = np.concatenate([even(n), even(n, start, 48_000)])
    (first, second), _ = runs_of(times, tick_s=1e-5, rates=[44_100] * n + [48_000] * n)
    assert (first.rate, second.rate, second.first) == (44_100, 48_000, n * FRAME)
    assert second.start_s == pytest.approx(first.end_s, abs=1e-5)
    assert second.position(np.asarray([start + 0.5]))[0] == pytest.approx(n * FRAME + 24_000, abs=0.5)


def test_frames_without_a_time_follow_the_others():
    times = even(100, 2.0)
    times[[0, 1, 50, 51]] = np.nan
    (run,), _ = runs_of(times, tick_s=1e-5)
    assert run.start_s == pytest.approx(2.0)
    (run,), _ = runs_of(np.full(10, np.nan))
    assert (run.start_s, run.n) == (0.0, 10 * FRAME)


def test_frames_of_different_length():
    counts = np.random.default_rng(0).integers(100, 2000, 300)
    times = (np.cumsum(counts) - counts) / RATE
    (run,), _ = runs_of(rounded(times), counts=counts)
    assert run.n == counts.sum()
    assert run.start_s == pytest.approx(0, abs=1e-4)
