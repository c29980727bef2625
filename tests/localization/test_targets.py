"""What points should say, against loops over points and events, and against the public code's answers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.core.data.grid import Grid
from tasks.localization.data import to_grid, to_seconds
from tasks.localization.targets import assign, make_points, token_labels, tokens_inside

RANGES = ((0, 4), (4, 8), (8, 16), (16, 10000))


def points(length: int = 64):
    return make_points([length >> level for level in range(len(RANGES))], RANGES)


def events(seed: int, n: int = 7, classes: int = 3):
    draws = np.random.default_rng(seed)
    starts = draws.uniform(-3, 50, n)
    segments = np.stack([starts, starts + draws.uniform(0.5, 40, n)], 1)
    return torch.from_numpy(segments).float(), torch.from_numpy(draws.integers(0, classes, n))


def brute(segments, labels, classes, class_aware, radius):
    """Point by point, event by event."""
    answers = {}
    number = 0
    for level, (low, high) in enumerate(RANGES):
        stride = 2**level
        for place in range(0, 64, stride):
            valid = []
            for (start, end), label in zip(segments.tolist(), labels.tolist(), strict=True):
                left, right, middle = place - start, end - place, (start + end) / 2
                near = radius is None or abs(place - middle) < radius * stride
                if left > 0 and right > 0 and near and low <= max(left, right) <= high:
                    valid.append((end - start, label, left / stride, right / stride))
            if class_aware:
                for _, label, left, right in valid:
                    answers[number, label] = (left, right)  # the last one stays
            elif valid:
                shortest = min(valid)
                for length, label, *_ in valid:
                    if length <= shortest[0] + 1e-3:
                        answers[number, label] = shortest[2:]
            number += 1
    return answers


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("class_aware", "radius"), [(True, None), (False, None), (False, 1.5), (True, 1.5)])
def test_targets_are_those_of_a_double_loop(seed: int, class_aware: bool, radius: float | None):
    segments, labels = events(seed)
    found = assign(points(), segments, labels, 3, class_aware, radius)
    expected = brute(segments, labels, 3, class_aware, radius)
    assert {tuple(pair) for pair in found.classes.nonzero().tolist()} == set(expected)
    for (point, label), offsets in expected.items():
        mine = found.offsets[point, label] if class_aware else found.offsets[point]
        assert mine.tolist() == pytest.approx(offsets, abs=1e-4)


def test_overlapping_events_of_two_classes_are_both_positive():
    segments, labels = torch.tensor([[10.0, 30], [12, 26]]), torch.tensor([0, 2])
    found = assign(points(), segments, labels, 3, True)
    both = found.classes[:, 0] * found.classes[:, 2] > 0
    assert both.any()
    point = int(both.nonzero()[0])
    at, stride = points().at[point].item(), points().stride[point].item()
    for label, (start, end) in zip(labels.tolist(), segments.tolist(), strict=True):
        left, right = found.offsets[point, label].tolist()
        assert (at - left * stride, at + right * stride) == pytest.approx((start, end))


def test_the_shortest_event_wins_and_equally_short_ones_share_a_point():
    segments, labels = torch.tensor([[0.0, 30], [5.2, 12.6], [5.2001, 12.6003]]), torch.tensor([0, 1, 2])
    found = assign(points(), segments, labels, 3, False)
    finest_two = found.classes[:96]
    assert finest_two[:, 0].sum() == 0
    assert torch.equal(finest_two[:, 1], finest_two[:, 2])
    assert finest_two[:, 1].sum() > 0


@pytest.mark.parametrize("class_aware", [True, False])
def test_a_video_without_events_has_no_positive_point(class_aware: bool):
    found = assign(points(), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 3, class_aware)
    assert found.classes.shape == (120, 3)
    assert found.offsets.shape == ((120, 3, 2) if class_aware else (120, 2))
    assert not found.classes.any()


def test_thousands_of_events_in_one_video():
    segments, labels = events(0, 2000, 100)
    found = assign(make_points([2304 >> level for level in range(4)], RANGES), segments, labels, 100, True)
    assert found.classes.sum() > 1000


def test_tokens_in_events_have_all_their_classes():
    segments, labels = torch.tensor([[2.0, 5], [4, 6.9], [8.3, 8.6], [40, 50], [-9, -4]]), torch.tensor([0, 1, 2, 0, 0])
    found = token_labels(segments, labels, 12, 3)
    assert found[:, 0].nonzero().flatten().tolist() == [2, 3, 4, 5]
    assert found[:, 1].nonzero().flatten().tolist() == [4, 5, 6]
    assert found[:, 2].nonzero().flatten().tolist() == [8]  # between two tokens: the nearest
    assert tokens_inside(segments, 12).sum(0).tolist() == [4, 3, 1, 0, 0]


GRIDS = {  # stride and span of the features that were published, seconds
    "UnAV-100": (8 / 25, 24 / 25),
    "THUMOS14": (4 / 30, 16 / 30),
    "ActivityNet-1.3": (16 / 25, 16 / 25),
    "EPIC-KITCHENS-100": (16 / 30, 32 / 30),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("size", [None, 192])
def test_seconds_to_the_grid_and_back(name: str, size: int | None):
    stride, span = GRIDS[name]
    times = Grid(stride, span, 0.2).times(500)
    seconds = np.random.default_rng(0).uniform(times[0, 0] + span, times[-1, 1] - span, 1000)
    places = to_grid(seconds, times)
    assert places == pytest.approx(Grid(stride, span, 0.2).index_of(seconds), abs=1e-9)
    assert places == pytest.approx(((seconds - 0.2) / stride - span / stride / 2), abs=1e-9)
    if size:
        places = (places + 0.5) * size / 500 - 0.5
    assert to_seconds(places, times, size) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.real
@pytest.mark.parametrize("variant", ["class_aware", "shortest"])
def test_targets_are_those_of_the_public_code(variant: str, real_data: Path):
    """25 videos of UnAV-100 and a list made by hand, on the published grid."""
    folder = real_data.parent / "parity" / "targets_unav"
    given, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    ranges = ((0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000))
    everywhere = make_points([224 >> level for level in range(6)], ranges)
    videos = {name.split("|")[1] for name in expected if name.startswith(variant)}
    assert len(videos) == 26
    for video in videos:
        segments, labels = (torch.from_numpy(given[f"{video}|{name}"]) for name in ("segments", "labels"))
        found = assign(everywhere, segments, labels.long(), 100, variant == "class_aware")
        pairs = found.classes.nonzero()
        assert np.array_equal(pairs.numpy(), expected[f"{variant}|{video}|positive"]), video
        offsets = found.offsets[pairs[:, 0], pairs[:, 1]] if variant == "class_aware" else found.offsets[pairs[:, 0]]
        assert offsets.numpy() == pytest.approx(expected[f"{variant}|{video}|offset"], abs=1e-5)
