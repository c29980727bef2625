"""Events and features as the model takes them: crops, grids, and what is odd about both."""

import numpy as np
import pytest
import torch

from tasks.core.data.feature_batch import FeatureSample, Piece, collate
from tasks.core.data.grid import Grid
from tasks.core.data.rows import Row
from tasks.localization.config import CropConfig, FinetuneConfig
from tasks.localization.data import EventCropper, TrainPieces, cut, draw_start, to_grid

GRID = Grid(0.5, 1.0, 0.25)


def sample(length: int, segments: list, labels: list, seed: int = 5) -> FeatureSample:
    """Features that say where they are: channel 0 is the number of the feature."""
    at = np.arange(length, dtype=np.float32)[:, None]
    piece = Piece(
        0, GRID.times(length), {"visual": np.repeat(at, 3, 1), "audio": np.repeat(100 + at, 2, 1)}, {"audio": np.ones(length, bool)}
    )
    times = np.array(segments, np.float32).reshape(-1, 2)
    return FeatureSample(0, "a.mp4", -1, [piece], [seed], times, np.array(labels, np.int64))


def ready(samples: list[FeatureSample], main: str = "visual", **settings) -> dict:
    config = FinetuneConfig(**{"data": {"max_length": 100, "pad": "longest"}, **settings})
    return TrainPieces(config, main)(collate(samples), torch.device("cpu"))


def seconds(first: float, last: float) -> list[float]:
    """When the features of these numbers are."""
    return [GRID.offset_s + GRID.span_s / 2 + GRID.stride_s * number for number in (first, last)]


def test_without_crops_everything_is_there():
    found = ready([sample(40, [seconds(3, 9.5)], [1]), sample(30, [], [])], crop={"ratio": None})
    assert found["video"].shape == (2, 3, 40)
    assert found["audio"].shape == (2, 2, 40)
    assert found["mask"].sum(1).tolist() == [40, 30]
    assert found["video"][0, 0].tolist() == list(range(40))
    assert found["audio"][1, 1, :30].tolist() == list(range(100, 130))
    assert not found["video"][1, :, 30:].any()
    assert found["segments"][0].tolist() == [pytest.approx([3, 9.5], abs=1e-4)]
    assert found["labels"][0].tolist() == [1]
    assert found["segments"][1].shape == (0, 2)


def test_a_crop_moves_features_and_events_alike():
    lengths = set()
    for seed in range(30):
        found = ready([sample(40, [seconds(4, 20), seconds(30, 38)], [0, 1], seed)], crop={"ratio": (0.5, 0.9)})
        length = int(found["mask"].sum())
        lengths.add(length)
        start = int(found["video"][0, 0, 0])
        assert 20 <= length <= 36
        assert found["video"][0, 0, :length].tolist() == list(range(start, start + length))
        assert found["audio"][0, 0, 0] == 100 + start
        assert len(found["labels"][0]) >= 1
        for (a, b), label in zip(found["segments"][0].tolist(), found["labels"][0].tolist(), strict=True):
            first, last = ((4, 20), (30, 38))[label]
            assert a == pytest.approx(max(first - start, 0), abs=1e-3)
            assert b == pytest.approx(min(last - start, length), abs=1e-3)
            assert b - a >= 0.5 * (last - first) - 1e-3
    assert len(lengths) > 5


def test_the_same_seed_gives_the_same_crop():
    first, second = (ready([sample(40, [seconds(4, 20)], [0])], crop={"ratio": (0.3, 0.9)}) for _ in range(2))
    assert torch.equal(first["video"], second["video"])


def test_a_video_that_was_cut_keeps_the_events_in_its_piece():
    inside, out, half, less = seconds(2, 12), seconds(50, 60), seconds(30, 50), seconds(36, 50)
    found = ready([sample(40, [inside, out, half, less], [0, 1, 2, 3])], data={"max_length": 40, "pad": "longest"})
    assert found["labels"][0].tolist() == [0, 2]
    assert found["segments"][0][1].tolist() == pytest.approx([30, 40], abs=1e-3)
    assert found["mask"].sum() == 40  # it is not cropped again


def test_a_long_video_is_cut_where_something_happens():
    rows = [Row("a.mp4", "x", *seconds(700, 720)), Row("a.mp4", None)]
    crop, rng = EventCropper(CropConfig()), np.random.default_rng(0)
    for _ in range(20):
        start = crop(GRID.times(1000), 100, rng, rows)
        assert start <= 710 <= start + 100
    assert 0 <= crop(GRID.times(1000), 100, rng, []) <= 900


def test_events_of_no_length_without_a_class_or_outside_do_no_harm():
    found = ready([sample(40, [seconds(5, 5), seconds(3, 6), seconds(-9, -4), seconds(90, 95)], [0, -1, 1, 2])], crop={"ratio": None})
    assert found["labels"][0].tolist() == [1, 2]


def test_stretching_keeps_events_on_the_features_they_are_about():
    found = ready([sample(25, [seconds(5, 15)], [0])], resize=50, data={"max_length": None, "pad": "longest"}, crop={"ratio": None})
    assert found["video"].shape == (1, 3, 50)
    (a, b) = found["segments"][0][0].tolist()
    values = found["video"][0, 0]
    for place, number in ((a, 5), (b, 15)):
        low = int(np.floor(place))
        assert values[low] + (place - low) * (values[low + 1] - values[low]) == pytest.approx(number, abs=1e-3)


def test_the_grid_may_be_that_of_the_sound():
    piece = Piece(
        0, GRID.times(8), {"audio": np.ones((8, 2), np.float32), "visual": np.zeros((8, 3), np.float32)}, {"visual": np.ones(8, bool)}
    )
    found = ready(
        [FeatureSample(0, "a.mp4", -1, [piece], [1], np.zeros((0, 2), np.float32), np.zeros(0, np.int64))], "audio", crop={"ratio": None}
    )
    assert found["audio"].eq(1).all()
    assert found["video"].eq(0).all()


def test_one_feature_is_a_grid_too():
    assert to_grid(np.array([0.75, 1.75]), GRID.times(1)).tolist() == [0, 1]


def test_shares_inside():
    segments = np.array([[0.0, 10], [8, 12], [8, 20], [5, 5]])
    parts, kept = cut(segments, 4, 10, 0.5)
    assert kept.tolist() == [True, True, False, False]
    assert parts.tolist() == [[0, 6], [4, 6]]


def test_a_crop_is_drawn_even_where_no_event_fits():
    assert 0 <= draw_start(np.array([[0.0, 1000]]), 10, 50, 0.5, np.random.default_rng(0)) <= 40
