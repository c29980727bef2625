"""Lasting changes by hand-made streams and by their definition, and the turns of a camera."""

import numpy as np
import pytest

from tasks.boundaries import lasting
from tasks.boundaries.camera import turns
from tasks.boundaries.lasting import LastingChange, changed, exposed, median_of_three, unlike_blend
from tasks.boundaries.training_free import SHARE

RNG = np.random.default_rng(0)
BEFORE, AFTER = (RNG.uniform(30, 220, (12, 16)).astype(np.float32) for _ in range(2))


def stream(pictures, interval_s=1 / 15):
    change = LastingChange(interval_s)
    for picture in pictures:
        change.add(np.asarray(picture, np.float32))
    return change.finish()


def dissolve(n, at, length, before=BEFORE, after=AFTER):
    return [before * (1 - s) + after * s for s in np.clip((np.arange(n) - at) / length + 0.5, 0, 1)]


def test_a_dissolve_changes_all_of_the_picture_as_a_blend():
    share, unlike = stream(dissolve(90, 45, 7))
    peak = int(np.nanargmax(share))
    assert abs(peak - 45) <= 2
    assert share[peak] > 0.9
    assert abs(unlike[peak]) < 0.1


def test_a_cut_and_a_wipe_are_no_blends():
    cut = [BEFORE] * 45 + [AFTER] * 45
    share, unlike = stream(cut)
    assert share[45] > 0.9
    assert unlike[45] == 1
    order = RNG.permutation(BEFORE.size).reshape(BEFORE.shape)
    wipe = [np.where(order < BEFORE.size * s, AFTER, BEFORE) for s in np.clip((np.arange(90) - 41) / 8, 0, 1)]
    share, unlike = stream(wipe)
    assert unlike[int(np.nanargmax(share))] > 0.7


def test_nothing_lasting_in_flicker_noise_and_exposure():
    flicker = [BEFORE * (1 + 0.1 * (-1) ** t) for t in range(90)]
    noise = [BEFORE + RNG.normal(0, 6, BEFORE.shape) for _ in range(90)]
    darker = [BEFORE * (1 - 0.3 * s) for s in np.clip((np.arange(90) - 40) / 8, 0, 1)]
    flash = [BEFORE if t != 45 else np.full_like(BEFORE, 250) for t in range(90)]
    for pictures in (flicker, noise, darker, flash):
        assert np.nanmax(stream(pictures)[0]) < 0.05


def test_what_is_not_whole_is_not_known():
    change = LastingChange(1 / 15)
    assert (change.side, change.gaps, change.reach) == (8, [4, 9], 17)
    share, unlike = stream([BEFORE] * 40)
    assert np.isfinite(share).nonzero()[0].tolist() == list(range(17, 24))
    assert (unlike == 1).all()
    for n in (0, 1, 2, 5):
        assert [len(part) for part in stream([BEFORE] * n)] == [n, n]


def test_changed_by_its_definition(float64):
    samples = RNG.normal(0, 20, (24, 30)).cumsum(0)
    share, _ = changed(samples, 8)
    counts = []
    left, right = samples[:8], samples[16:]
    matched = exposed(left.mean(0), right.mean(0))
    for pixel in range(30):
        slopes = [abs(np.polyfit(np.arange(8), part[:, pixel], 1)[0]) for part in (left, right)]
        step = max(abs(right[:, pixel].mean() - matched[pixel]) - 0.5 * max(slopes) * 16, 0) ** 2
        counts.append(step / (step + 30 * (left[:, pixel].var() + right[:, pixel].var()) + 4))
    assert share == pytest.approx(np.mean(counts), rel=1e-6)


def test_exposure_is_fitted_within_bounds():
    pixels = RNG.uniform(0, 255, 200)
    np.testing.assert_allclose(exposed(pixels, 0.8 * pixels + 7), 0.8 * pixels + 7)
    faded = exposed(pixels, np.zeros(200))  # to black is more than a change of exposure
    assert np.abs(faded).max() > 30


def test_blends_by_hand():
    before, after, weights = np.zeros(4), np.array([10.0, 20, -10, 40]), np.ones(4)
    shares = np.array([0.25, 0.5, 0.75])
    assert unlike_blend(shares[:, None] * after, before, after, np.zeros(4), weights) == pytest.approx(0)
    switched = np.array([[0, 0, -10, 0], [10, 0, -10, 0], [10, 20, -10, 0]])
    power = 100 + 400 + 100 + 1600
    a = np.array([100, 200, 600]) / power
    rest = sum((switched[i] - a[i] * after) ** 2 for i in range(3)).sum()
    assert unlike_blend(switched, before, after, np.zeros(4), weights) == pytest.approx(rest / (power * (a * (1 - a)).sum()))
    assert unlike_blend(switched, before, before, np.zeros(4), weights) == 1
    assert unlike_blend(np.stack([before, after]), before, after, np.zeros(4), weights) == 1


def test_median_of_three():
    three = RNG.normal(size=(3, 50))
    np.testing.assert_array_equal(median_of_three(*three), np.median(three, 0))


def test_the_constants_hang_together():
    assert min(SHARE.values()) > lasting.LEAST  # of what counts it is asked whether it is a blend


def test_turns_by_hand():
    speeds = np.zeros((40, 2))
    speeds[20:] = 3, 4
    found = turns(speeds, 8)
    assert found[20] == pytest.approx(np.log((5 + 0.15) / 0.15))
    assert int(np.argmax(found)) == 20
    assert np.isneginf(found[[0, 1, 2, 3, 4, -1, -4]]).all()
    shaking = np.stack([np.tile([1.0, -1.0], 20), np.zeros(40)], 1)
    assert found[20] > 1 > turns(shaking, 8).max()
