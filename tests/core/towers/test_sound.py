import numpy as np
import pytest
from sounds import write_sound

from tasks.core.data.rows import Row
from tasks.core.towers.config import SoundConfig
from tasks.core.towers.sound import SoundExtractor


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    return write_sound(tmp_path / "a.mp4", "aac", seconds=24.0)


def features(file, **settings):
    found, grid, _, _ = SoundExtractor(SoundConfig(**settings)).of_row(Row(str(file)), lambda n: None)
    return found, grid


@pytest.mark.parametrize(("hop_s", "span_s"), [(0.2, 0.2), (0.05, 0.2), (0.3, 0.1)])
def test_moments_are_mean_and_deviation_of_the_frames_of_a_feature(file, hop_s, span_s):
    stacked, grid = features(file, hop_s=hop_s, span_s=span_s)
    pooled, same = features(file, hop_s=hop_s, span_s=span_s, pool="moments")
    frames = stacked.reshape(len(stacked), -1, 64)
    assert same == grid
    assert pooled == pytest.approx(np.concatenate([frames.mean(1), frames.std(1)], 1), abs=1e-4)


def test_features_that_overlap_or_leave_gaps_are_those_of_the_frames(file):
    """Blocks of sound end anywhere; features do not change where they do."""
    frames, _ = features(file)
    for hop, span in ((5, 20), (30, 10), (7, 7)):
        found, grid = features(file, hop_s=hop / 100, span_s=span / 100)
        expected = [frames[first : first + span].ravel() for first in range(0, len(frames) - span + 1, hop)]
        assert grid.stride_s == pytest.approx(hop / 100)
        assert len(found) == -(-2400 // hop)
        assert found[: len(expected)] == pytest.approx(np.stack(expected), abs=1e-4)


def test_the_kind_of_pooling_is_part_of_the_kind_of_features():
    stack, moments = (SoundExtractor(SoundConfig(hop_s=0.2, pool=pool)) for pool in ("stack", "moments"))
    assert stack.described["id"] != moments.described["id"]
    assert "pool" not in stack.made_by  # features that were made before it existed stay what they are
    assert (stack.dim, moments.dim) == (20 * 64, 128)
