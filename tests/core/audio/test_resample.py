"""Band-limited interpolation against closed forms and a slow float64 sum."""

import math

import numpy as np
import pytest

from tasks.core.audio.resample import BETA, ROLLOFF, ZEROS, interpolate, reach

RATES = [(48_000, 16_000), (44_100, 16_000), (22_050, 16_000), (16_000, 48_000), (8_000, 16_000), (16_000, 16_000)]


def tone(hertz, t):
    return np.sin(2 * np.pi * hertz * t + 0.3)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.8])
@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_a_tone_keeps_frequency_phase_and_amplitude(source, target, share, offset):
    hertz = share * min(source, target) / 2
    sound = tone(hertz, np.arange(source) / source).astype(np.float32)
    positions = (np.arange(target // 2) + offset) * source / target + source // 4
    found = interpolate(sound, positions, source, target)
    assert found.dtype == np.float32
    assert found == pytest.approx(tone(hertz, positions / source), abs=2e-4)


def test_what_would_fold_back_is_gone():
    for hertz in (8_200, 9_000, 12_000, 20_000):
        found = interpolate(tone(hertz, np.arange(48_000) / 48_000), np.arange(4_000, 12_000) * 3.0, 48_000, 16_000)
        assert np.abs(found).max() < 10 ** (-80 / 20)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_equals_a_slow_sum_in_float64(source, target):
    rng = np.random.default_rng(0)
    sound = rng.normal(size=400)
    positions = np.sort(rng.uniform(-40, 440, 60))
    rolloff = 1.0 if source == target else ROLLOFF
    cutoff = rolloff * min(1.0, target / source)
    half = math.ceil(ZEROS * max(1.0, source / target) / rolloff)
    assert reach(source, target) == half

    def weight(x):
        inside = 1 - (x / half) ** 2
        sinc = 1.0 if x == 0 else math.sin(math.pi * cutoff * x) / (math.pi * cutoff * x)
        return 0.0 if inside <= 0 else sinc * np.i0(BETA * math.sqrt(inside))

    slow = []
    for p in positions:
        around = range(math.floor(p) - half + 1, math.floor(p) + half + 1)
        total = sum(weight(p - k) for k in around)
        slow.append(sum(weight(p - k) * sound[k] for k in around if 0 <= k < len(sound)) / total)
    assert interpolate(sound.astype(np.float32), positions, source, target) == pytest.approx(np.asarray(slow), abs=3e-5)


def test_on_its_own_samples_sound_is_untouched():
    sound = np.random.default_rng(0).normal(size=100).astype(np.float32)
    found = interpolate(sound, np.arange(-10.0, 120.0), 16_000, 16_000)
    assert np.array_equal(found, np.pad(sound, (10, 20)))


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_constant_stays_what_it_is(source, target):
    found = interpolate(np.ones(2000, np.float32), np.linspace(500, 1500, 700), source, target)
    assert found == pytest.approx(np.ones(700), abs=1e-6)


def test_the_whole_is_its_parts_to_the_last_bit():
    sound = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    positions = 0.123 + np.arange(6000) * 2.7563
    whole = interpolate(sound, positions, 44_100, 16_000)
    for begin, end in ((0, 7), (7, 1500), (1500, 1501), (1501, 6000)):
        at = positions[begin:end]
        first, stop = max(0, int(at[0]) - 100), int(at[-1]) + 102
        assert np.array_equal(interpolate(sound[first:stop], at, 44_100, 16_000, first), whole[begin:end])


def test_nothing_gives_silence():
    assert np.array_equal(interpolate(np.zeros(0, np.float32), np.arange(3.0), 8_000, 16_000), np.zeros(3))
    assert len(interpolate(np.ones(5, np.float32), np.zeros(0), 8_000, 16_000)) == 0
