import numpy as np
import pytest

from tasks.core.config import build
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.data.features import Features, Grid, write_features
from tasks.core.data.streams import open_streams, resample
from tasks.core.errors import UsageError

ENCODER = {"reference": "x", "weights_hash": "0"}


def ramp(n, grid):
    """Features that are the time of their own middle."""
    return Features(np.stack([grid.centers(n), -grid.centers(n)], 1).astype(np.float32), grid)


@pytest.mark.parametrize("grid", [Grid(0.5, 1.0, 0.1), Grid(0.3, 0.0, -0.2), Grid(0.4, 2.0, 1.0)])
def test_resampling_against_a_slow_reference(grid):
    features, wanted = ramp(9, grid), np.arange(-2, 8, 0.3701)
    middles = grid.centers(9)
    near, known = resample(features, wanted, "nearest")
    line, known_too = resample(features, wanted, "linear")
    np.testing.assert_array_equal(known, known_too)
    for t, a, b, there in zip(wanted, near, line, known, strict=True):
        assert there == (middles[0] - grid.stride_s / 2 <= t <= middles[-1] + grid.stride_s / 2)
        if there:
            assert a[0] == pytest.approx(middles[np.abs(middles - t).argmin()], abs=1e-5)
            assert b[0] == pytest.approx(np.interp(t, middles, middles), abs=1e-5)
        else:
            assert (a == 0).all()
            assert (b == 0).all()
    assert near.dtype == line.dtype == np.float32


def test_the_same_grid_is_left_as_it_is():
    """Rounding included: 0.1 + 0.2 is not 0.3."""
    features = Features(np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float16), Grid(0.1, 0.7, 0.3))
    for how in ("nearest", "linear"):
        found, known = resample(features, Grid(0.1, 0.7, 0.1 + 0.2).centers(1000), how)
        np.testing.assert_allclose(found, features.values.astype(np.float32), atol=1e-6)
        assert known.all()
    halfway, _ = resample(features, Grid(0.1, 0.7, 0.35).centers(999))  # of two equally near the earlier
    np.testing.assert_array_equal(halfway, features.values[:999].astype(np.float32))
    one, known = resample(Features(np.ones((1, 2)), Grid(1, 1)), np.array([0.1, 0.5, 1.2]), "linear")
    assert known.tolist() == [True, True, False]
    assert one.tolist() == [[1, 1], [1, 1], [0, 0]]


def streams(tmp_path, strides, **settings):
    for name, stride in strides.items():
        if not (tmp_path / name).exists():
            grid = None if stride is None else Grid(stride, 1.0)
            write_features(tmp_path / name, "a", np.ones(4) if grid is None else np.ones((6, 4)), grid, ENCODER)
    return build(FeatureConfig, {"streams": {name: {"folder": str(tmp_path / name)} for name in strides}, **settings})


def test_streams_of_different_strides_are_aligned_only_where_it_is_asked_for(tmp_path):
    both = {"visual": 0.5, "audio": 0.96}
    with pytest.raises(UsageError, match=r"the streams visual and audio have different strides: 0.5 s and 0.96 s") as raised:
        open_streams(streams(tmp_path, both))
    assert "--set data.align=nearest" in raised.value.hint
    assert list(open_streams(streams(tmp_path, both, align="linear"))) == ["visual", "audio"]
    assert list(open_streams(streams(tmp_path, {"visual": 0.5, "same": 0.5}))) == ["visual", "same"]
    with pytest.raises(UsageError, match=r"data.streams.whole\) has one feature per video"):
        open_streams(streams(tmp_path, {"visual": 0.5, "whole": None}))
    with pytest.raises(UsageError, match="no folder of features given"):
        open_streams(FeatureConfig())


def test_foreign_streams_take_their_grid_from_the_settings(tmp_path):
    (tmp_path / "i3d").mkdir()
    np.save(tmp_path / "i3d" / "v_a_rgb.npy", np.ones((4, 6)))
    stream = {"folder": str(tmp_path / "i3d"), "files": "v_{name}_rgb.npy", "layout": "dn", "encoder": "i3d"}
    with pytest.raises(UsageError) as raised:
        open_streams(build(FeatureConfig, {"streams": {"rgb": stream}}))
    assert "set data.streams.rgb.grid.stride_s" in raised.value.hint
    grid = {"stride_s": 0.64, "span_s": 0.64, "offset_s": 0.32}
    folder = open_streams(build(FeatureConfig, {"streams": {"rgb": {**stream, "grid": grid}}}))["rgb"]
    assert (folder.names, folder.dim, folder.grid.facts()) == (["a"], 4, grid)
    with pytest.raises(UsageError, match=r"streams.rgb.grid.offset_s: missing"):
        build(FeatureConfig, {"streams": {"rgb": {**stream, "grid": {"stride_s": 1, "span_s": 1}}}})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"pad": "max_length"}, "pad: max_length needs max_length"),
        ({"test": "windows"}, "test: windows needs max_length"),
        ({"streams": {"times": {"folder": "x"}}}, "cannot have the name 'times'"),
        ({"streams": {"a_mask": {"folder": "x"}}}, "cannot have the name 'a_mask'"),
        ({"streams": {"a b": {"folder": "x"}}}, "cannot have the name 'a b'"),
        ({"align": "linaer"}, "did you mean 'linear'?"),
        ({"max_lenght": 3}, "did you mean 'max_length'?"),
    ],
)
def test_wrong_settings(wrong, told):
    with pytest.raises(UsageError) as raised:
        build(FeatureConfig, wrong)
    assert told in str(raised.value)
