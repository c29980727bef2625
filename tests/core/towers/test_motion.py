import numpy as np
import pytest
import torch

from tasks.core.data.rows import Row
from tasks.core.data.synthetic import encode
from tasks.core.towers.config import MotionConfig
from tasks.core.towers.motion import MotionExtractor
from tasks.core.towers.motion_parts import STILL, directions, in_context, mirrored, posture, products
from tasks.core.video.open import open_video

SIDE = 64
PLAIN = MotionConfig(short_side=SIDE, side_px=SIDE, hop_s=0.2)


def drifting(n, dx, dy=0, side=SIDE, seed=0):
    """(n, side, side, 3) uint8: a patch of noise that moves over grey, dx and dy px a picture."""
    texture = np.random.default_rng(seed).integers(0, 255, (6, 6), np.uint8).repeat(4, 0).repeat(4, 1)
    found = np.full((n, side, side, 3), 128, np.uint8)
    for i in range(n):
        y, x = 20 + i * dy, 10 + i * dx % 30
        found[i, y : y + 24, x : x + 24] = texture[..., None]
    return torch.from_numpy(found)


def histogram(features, config=PLAIN):
    return features[:, : config.cells**2 * config.directions].reshape(len(features), config.cells, config.cells, config.directions)


def test_directions_by_hand():
    flow = np.zeros((1, 8, 8, 2), np.float32)
    flow[0, :4, 4:] = (3, 0.1)  # to the right and a little down: the sector that begins at 0
    flow[0, 4:, :4] = (-0.1, -2)  # up, a little left
    found = directions(flow, 2, 8)
    expected = np.zeros((1, 2, 2, 8))
    expected[0, 0, 1, 4] = np.hypot(3, 0.1)
    expected[0, 1, 0, 1] = np.hypot(0.1, 2)
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_moves_to_the_right_is_in_the_sectors_of_the_right():
    found = histogram(MotionExtractor(PLAIN).of_pictures(drifting(5, 3))) ** 2
    assert len(found) == 2
    right, left = found[..., 3:5].sum(), found[..., [7, 0]].sum()
    assert right > 10 * left


def test_a_still_video_has_no_motion():
    found = MotionExtractor(PLAIN).of_pictures(drifting(5, 0))
    assert np.array_equal(found, np.zeros((2, PLAIN.dim), np.float32))


def test_speeds_are_in_sides_of_the_square_so_that_near_and_far_look_alike():
    near, far = (MotionExtractor(PLAIN).of_pictures(drifting(5, 2).repeat_interleave(k, 1).repeat_interleave(k, 2)) for k in (3, 1))
    assert np.corrcoef(near[:, :-2].ravel(), far[:, :-2].ravel())[0, 1] > 0.9
    assert near[:, -3].mean() == pytest.approx(far[:, -3].mean(), rel=0.15)


def test_a_mirrored_video_has_the_mirrored_channels():
    pictures = drifting(7, 3, 1)
    plain, other = (MotionExtractor(PLAIN).of_pictures(each) for each in (pictures, pictures.flip(2)))
    order = mirrored(PLAIN)
    assert sorted(order) == list(range(PLAIN.dim))
    assert np.array_equal(order[order], np.arange(PLAIN.dim))
    assert np.corrcoef(plain[:, order].ravel(), other.ravel())[0, 1] > 0.98
    assert np.corrcoef(plain.ravel(), other.ravel())[0, 1] < 0.9


def test_columns_are_seen_each_on_its_own():
    two = MotionConfig(short_side=SIDE, side_px=SIDE, columns=2)
    left, right = drifting(5, 3), drifting(5, -1, 1, seed=1).flip(2)
    both = MotionExtractor(two).of_pictures(torch.cat([left, right], 2))
    alone = [MotionExtractor(PLAIN).of_pictures(each) for each in (left, right)]
    assert both.shape == (2, two.dim)
    assert np.array_equal(both, np.concatenate(alone, 1))


def test_features_of_a_video_block_by_block(tmp_path, monkeypatch):
    """One for every 0.2 s, on the grid of the video, and never more pictures at once than a block has."""
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "v.mp4"
    file.write_bytes(encode(drifting(33, 1).numpy(), 10))
    asked = []
    with open_video(file) as reader:
        got = reader.get
        monkeypatch.setattr(reader, "get", lambda numbers, *more: asked.append(len(numbers)) or got(numbers, *more))
        maker = MotionExtractor(PLAIN.model_copy(update={"block_s": 1.0}))
        grid, blocks = maker.stream(reader)
        blocks = list(blocks)
    assert [len(block) for block in blocks] == [5, 5, 5, 2]
    assert max(asked) == 11
    assert (grid.stride_s, grid.span_s, grid.offset_s) == (0.2, 0.2, 0.0)
    features, same, _, facts = maker.of_row(Row(str(file)), lambda n: None)
    assert same == grid
    assert np.array_equal(features, np.concatenate(blocks))
    assert facts == {"n_frames": 33, "damage": None}
    part, grid, _, _ = maker.of_row(Row(str(file), start_s=1.0, end_s=2.0), lambda n: None)
    assert (len(part), grid.offset_s) == (5, 1.0)


def test_the_frame_rate_does_not_matter(tmp_path, monkeypatch):
    """A video that shows every picture three times as often has the same motion at the same times."""
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    pictures, found = drifting(20, 1).numpy(), []
    for rate, times in ((10, 1), (30, 3)):
        file = tmp_path / f"{rate}.mp4"
        file.write_bytes(encode(pictures.repeat(times, 0), rate))
        found.append(MotionExtractor(PLAIN).of_row(Row(str(file)), lambda n: None)[0])
    slow, fast = found
    assert slow.shape == fast.shape
    assert np.corrcoef(slow[:-1].ravel(), fast[:-1].ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("wrong", "said"), [({"hop_s": 0.25}, "not a multiple"), ({"cells": 3}, "does not divide"), ({"directions": 5}, "multiple")]
)
def test_settings_that_do_not_fit(wrong, said):
    with pytest.raises(ValueError, match=said):
        MotionConfig(**wrong)


GESTURE = PLAIN.model_copy(update={"columns": 2, "cells": 2, "directions": 4, "context_s": 1.0})


@pytest.mark.parametrize("block", [1, 3, 7, 50])
def test_a_context_is_the_mean_of_the_features_around_whatever_the_blocks(block):
    raw = 16 + 64 + 48 + 8 + 3
    values = np.random.default_rng(0).random((23, 2 * raw)).astype(np.float32)
    found = np.concatenate(list(in_context((values[i : i + block] for i in range(0, 23, block)), GESTURE)))
    assert (GESTURE.around_hops, found.shape) == (2, (23, GESTURE.dim))
    for i, column in np.ndindex(23, 2):
        around = values[max(0, i - 2) : i + 3, column * raw : (column + 1) * raw].astype(np.float64).mean(0)
        moved, stood, times, squares, _ = np.split(around, [16, 80, 128, 136])
        expected = [
            moved / (np.sqrt((moved**2).sum()) + STILL["directions"]),
            np.sqrt(stood) / (np.sqrt(stood.sum()) + STILL["posture"]),
            times / (np.tile(squares, 6) + STILL["repetition"]),
            values[i, (column + 1) * raw - 3 : (column + 1) * raw],
        ]
        half = GESTURE.dim // 2
        assert found[i, column * half : (column + 1) * half] == pytest.approx(np.concatenate(expected), abs=1e-5)


def test_repetition_tells_waving_from_drifting():
    """What goes to and fro every eight pictures is against itself after four, and like itself after eight."""
    flow = np.zeros((64, 8, 8, 2), np.float32)
    flow[..., 0] = np.sin(2 * np.pi * np.arange(64) / 8)[:, None, None]
    times, squares = products(flow)
    again = times[:48, :, 0].mean(0) / squares[:48, 0].mean()
    assert again == pytest.approx(np.cos(2 * np.pi * np.array([1, 2, 3, 4, 6, 8]) / 8), abs=1e-5)
    assert not times[..., 1].any()
    assert not times[-8:, -1].any()  # beyond the last pair there is nothing


def test_posture_is_where_pictures_differ_from_the_usual_one():
    pictures = np.full((9, 16, 16), 100, np.uint8)
    pictures[4, :2, 2:4] = 150
    pictures[5, 8:] += 5  # noise
    found = posture(pictures)
    assert found[4].reshape(8, 8)[0, 1] == 42
    assert found.sum() == 42


def test_a_mirrored_gesture_has_the_mirrored_channels(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    config = PLAIN.model_copy(update={"context_s": 1.0})
    found = []
    for name, pictures in (("a", drifting(31, 3, 0)), ("b", drifting(31, 3, 0).flip(2))):
        file = tmp_path / f"{name}.mp4"
        file.write_bytes(encode(pictures.numpy(), 10))
        found.append(MotionExtractor(config).of_row(Row(str(file)), lambda n: None)[0])
    plain, other = found
    assert plain.shape[1] == config.dim == len(mirrored(config))
    sides = slice(0, 128 + 64)  # the rest is the same for both, or nearly
    assert np.corrcoef(plain[:, mirrored(config)][:, sides].ravel(), other[:, sides].ravel())[0, 1] > 0.97
    assert np.corrcoef(plain[:, sides].ravel(), other[:, sides].ravel())[0, 1] < 0.9


def test_with_a_context_the_middle_of_a_feature_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "v.mp4"
    file.write_bytes(encode(drifting(20, 1).numpy(), 10))
    plain, wide = (
        MotionExtractor(PLAIN.model_copy(update={"context_s": c})).of_row(Row(str(file)), lambda n: None)[1] for c in (None, 1.0)
    )
    assert wide.span_s == pytest.approx(1.0)
    assert wide.centers(10) == pytest.approx(plain.centers(10))
