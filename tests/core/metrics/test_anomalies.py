import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import brentq
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.anomalies import auc, average_precision, equal_error_rate, macro_auc, micro_auc, normalized, smoothed


def videos(seed, n=7, levels=None):
    """Scores and labels of several videos; `levels`: so few distinct scores that most frames are tied."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 200, n)
    labels = [rng.integers(0, 2, length) for length in lengths]
    labels[0][:] = 1
    labels[1][:] = 0
    scores = [rng.random(length) + 0.3 * y for length, y in zip(lengths, labels, strict=True)]
    scores = [s / 1.3 for s in scores]
    return [np.round(s * levels) / levels for s in scores] if levels else scores, labels


@pytest.mark.parametrize("levels", [None, 2, 5, 50])
@pytest.mark.parametrize("seed", range(5))
def test_measures_equal_scikit_learn_on_the_concatenated_vectors(seed, levels):
    scores, labels = videos(seed, levels=levels)
    s, y = np.concatenate(scores), np.concatenate(labels)
    assert micro_auc(scores, labels) == pytest.approx(roc_auc_score(y, s), abs=1e-12)
    assert average_precision(s, y) == pytest.approx(average_precision_score(y, s), abs=1e-12)
    fpr, tpr, _ = roc_curve(y, s, drop_intermediate=False)
    curve = fpr + 1e-12 * np.arange(len(fpr))  # made a function: no two points above each other
    crossing = brentq(lambda x: 1 - x - np.interp(x, curve, tpr), -1, 2)
    assert equal_error_rate(s, y) == pytest.approx(crossing, abs=1e-8)


def test_equal_error_rate_by_hand():
    assert equal_error_rate(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])) == 0
    assert equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 0, 1, 1])) == 1
    assert equal_error_rate(np.zeros(4), np.array([0, 0, 1, 1])) == 0.5
    # flagged from the top: 1, 0, 1, 0 -> (0, 1/2), (1/2, 1/2): equal at one half
    assert equal_error_rate(np.array([4, 3, 2, 1]), np.array([1, 0, 1, 0])) == 0.5
    # one normal frame of three above one anomalous frame of three
    assert equal_error_rate(np.array([6, 5, 4, 3, 2, 1]), np.array([1, 1, 0, 1, 0, 0])) == pytest.approx(1 / 3)


def test_higher_is_more_anomalous():
    labels = np.array([0, 0, 0, 1, 1])
    assert auc(np.arange(5.0), labels) == 1
    assert auc(-np.arange(5.0), labels) == 0
    assert auc(np.ones(5), labels) == 0.5


def test_a_large_set_is_exact():
    """A million frames: pairs beyond what float32 or int32 can count."""
    n = 1_000_000
    labels = np.arange(n) % 2
    assert auc(np.arange(n, dtype=np.float64), labels) == pytest.approx(0.5 + 1 / n, abs=1e-12)


def test_micro_is_not_the_mean_of_videos():
    """Each video is ranked perfectly, but the second one's scores all lie above the first one's."""
    scores, labels = [np.array([0.1, 0.2]), np.array([0.7, 0.8])], [np.array([0, 1]), np.array([0, 1])]
    assert macro_auc(scores, labels) == 1
    assert micro_auc(scores, labels) == 0.75


def test_macro_pads_as_the_script_of_ubnormal_or_skips():
    scores, labels = videos(3)
    padded = [roc_auc_score(np.concatenate(([0], y, [1])), np.concatenate(([0], s, [1]))) for s, y in zip(scores, labels, strict=True)]
    assert macro_auc(scores, labels) == pytest.approx(np.mean(padded), abs=1e-12)
    plain = [roc_auc_score(y, s) for s, y in zip(scores, labels, strict=True) if 0 < y.mean() < 1]
    assert len(plain) == len(scores) - 2
    assert macro_auc(scores, labels, "skip") == pytest.approx(np.mean(plain), abs=1e-12)


def test_padding_needs_scores_between_0_and_1():
    with pytest.raises(InputError, match=r"from -1 to 3") as caught:
        macro_auc([np.array([-1.0, 3.0])], [np.array([0, 1])])
    assert "per_video_minmax" in caught.value.hint
    assert macro_auc([np.array([-1.0, 3.0])], [np.array([0, 1])], "skip") == 1


def test_one_class_has_no_auc():
    assert auc(np.arange(3.0), np.ones(3)) is None
    assert micro_auc([], []) is None
    assert equal_error_rate(np.arange(3.0), np.zeros(3)) is None
    assert average_precision(np.arange(3.0), np.zeros(3)) is None
    assert macro_auc([np.arange(3.0)], [np.ones(3)], "skip") is None


def test_unusable_values():
    with pytest.raises(InputError, match="finite"):
        auc(np.array([0.0, np.nan]), np.array([0, 1]))
    with pytest.raises(InputError, match=r"0 \(normal\) or 1"):
        auc(np.array([0.0, 1.0]), np.array([0, 2]))
    with pytest.raises(ValueError, match="scores"):
        auc(np.zeros(2), np.zeros(3))


def test_smoothing_equals_scipy_away_from_the_edges():
    scores = np.random.default_rng(0).random(300)
    for sigma in (1.0, 3.3, 10.0):
        ours, theirs = smoothed(scores, np.arange(300), sigma), gaussian_filter1d(scores, sigma)
        inside = slice(int(4 * sigma) + 1, -int(4 * sigma) - 1)
        assert np.abs(ours[inside] - theirs[inside]).max() < 1e-4  # scipy rounds the reach to a whole number of frames


def test_smoothing_weighs_by_time_and_ignores_what_does_not_exist():
    rng = np.random.default_rng(1)
    t = np.cumsum(rng.uniform(0.02, 0.2, 60))
    t[30:] += 5  # a gap
    scores = rng.random(60)
    sigma = 0.25
    near = np.abs(t[:, None] - t[None]) / sigma
    weights = np.where(near <= 4, np.exp(-0.5 * near**2), 0)
    assert np.allclose(smoothed(scores, t, sigma), weights @ scores / weights.sum(1), atol=1e-12)
    assert np.allclose(smoothed(np.full(60, 0.7), t, sigma), 0.7)
    assert np.array_equal(smoothed(scores[:1], t[:1], sigma), scores[:1])


def test_normalisation():
    assert np.array_equal(normalized(np.array([2.0, 4.0, 3.0]), "per_video_minmax"), [0, 1, 0.5])
    assert np.array_equal(normalized(np.array([2.0, 2.0]), "per_video_minmax"), [0, 0])
    assert np.array_equal(normalized(np.array([2.0, 4.0])), [2, 4])
    with pytest.raises(UsageError, match="minmax"):
        normalized(np.zeros(2), "minmax")
