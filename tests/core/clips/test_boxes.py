"""Boxes follow what augmentation and testing do to the frames: a painted rectangle stays inside of its box, and fills it."""

import numpy as np
import pytest
import torch

from tasks.core.clips import augment
from tasks.core.clips import augment_ops as ops
from tasks.core.clips.augment import EvalTransform, TrainTransform
from tasks.core.clips.boxes import cut, has_box, inside, mirrored, moved_at_random, warped
from tasks.core.clips.config import AugmentConfig
from tasks.core.errors import UsageError

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SIDE = 64


def painted(n=24, frames=3, size=(96, 128), seed=0):
    """Black clips with a white rectangle that moves, and its boxes."""
    rng = np.random.default_rng(seed)
    video, boxes = torch.zeros(n, frames, 3, *size, dtype=torch.uint8), torch.zeros(n, frames, 4)
    for clip, own in zip(video, boxes, strict=True):
        height, width = rng.integers(24, 48, 2)
        top, left = rng.integers(0, size[0] - height - 8), rng.integers(0, size[1] - width - 8)
        for number, (frame, box) in enumerate(zip(clip, own, strict=True)):
            y, x = top + 2 * number, left + 3 * number
            frame[:, y : y + height, x : x + width] = 255
            box[:] = torch.tensor([x, y, x + width, y + height])
    return {"video": video, "boxes": boxes, "size": torch.tensor([size] * n), "seed": torch.arange(n) + 7}


def of_pictures(video, level=0.5):
    """The boxes around what is brighter than a level, `(..., T, 4)`; zeros where nothing is."""
    found = np.zeros((*video.shape[:2], 4))
    for boxes, clip in zip(found, video, strict=True):
        for box, frame in zip(boxes, clip, strict=True):
            bright = frame[0].numpy() > level
            rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
            if len(rows):
                box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return found


def agree(streams, least=0.5, level=0.5, side=4):
    """The largest distance in px between a box and what is painted, where both have sides of so many px at least; most of them have."""
    seen, boxes = of_pictures(streams["video"], level), streams["boxes"].numpy().astype(float)
    large = np.all([(each[..., 2:] - each[..., :2] >= side).all(-1) for each in (seen, boxes)], axis=0)
    assert large.mean() > least
    return np.abs(seen - boxes)[large].max()


@pytest.mark.parametrize("crop", ["resized", "multiscale", "center", "none", "motion"])
def test_boxes_follow_crop_flip_and_reversal(crop):
    batch = painted()
    out = TrainTransform(AugmentConfig(crop=crop, scale=(0.3, 1.0), flip=0.5, time_reverse=0.5, **UNIT), SIDE).streams(batch)
    assert out["boxes"].shape == (24, 3, 4)
    assert out["boxes"].dtype == torch.float32
    assert agree(out) <= 1


@pytest.mark.parametrize("magnitude", [3, 10])
def test_boxes_follow_randaugment(magnitude):
    """Every clip gets two operations, of which some shift, shear or turn one after the other."""
    transform = TrainTransform(AugmentConfig(crop="none", randaugment=(magnitude, 1.0), flip=0.3, **UNIT), SIDE)
    batch = painted(160)
    done = [[name for name, _ in operations(transform, seed)] for seed in batch["seed"].tolist()]
    kept = [number for number, names in enumerate(done) if {*names} <= {*WARPS, "identity"}]  # others change what is bright
    assert sum(len({*WARPS} & {*done[number]}) == 2 for number in kept) >= 5
    batch = {name: value[kept] for name, value in batch.items()}
    assert agree(transform.streams(batch), 0.4, level=0.3, side=10) <= 1  # not the slivers that are left at an edge


WARPS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def operations(transform, seed):
    """(name, strength) of what RandAugment does to a clip."""
    draws = ops.uniform_draws(np.array([seed]), 0, augment._N_DRAWS)[0]
    return list(transform._operations(draws[augment._SLOT["randaugment"]]))


@pytest.mark.parametrize("name", WARPS)
@pytest.mark.parametrize("strength", [-1.0, -0.37, 0.8])
def test_one_operation_moves_pictures_as_its_matrix_says(name, strength):
    clip = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)
    clip[..., 20:44, 24:40] = 255
    moved = ops.RANDAUGMENT[name](clip, strength, [0, 0, 0])
    found = warped(np.array([[24.0, 20, 40, 44]]), [ops.warp_of(name, strength, SIDE)], SIDE)
    assert np.abs(of_pictures(moved[None] / 255)[0] - found).max() <= 1


@pytest.mark.parametrize(("crop", "crops"), [("center", 1), ("center", 3), ("center", 10), ("motion", 1), ("motion", 3)])
@pytest.mark.parametrize("size", [(96, 128), (128, 96), (97, 100)])
def test_boxes_follow_the_views_of_testing(crop, crops, size):
    batch = painted(8, size=size)
    out = EvalTransform(AugmentConfig(crop=crop, **UNIT), SIDE, crops).streams(batch)
    assert out["boxes"].shape == (8 * crops, 3, 4)
    assert agree(out) <= 1


def test_flow_pictures_of_a_clip_have_its_boxes():
    """Squares are cut at twice the size there; boxes count px of what comes out."""
    batch = painted(4)
    for transform in (TrainTransform(AugmentConfig(crop="none", **UNIT), SIDE), EvalTransform(AugmentConfig(**UNIT), SIDE)):
        flow = type(transform)(transform.augment.model_copy(update={"flow": "dis"}), SIDE)
        assert torch.allclose(flow.streams(batch)["boxes"], transform.streams(batch)["boxes"], atol=0.51)


def test_what_is_empty_outside_or_no_number_is_no_box():
    boxes = np.array([[1.0, 2, 5, 6], [-9, -9, 3, 3], [70, 2, 90, 9], [4, 4, 4, 9], [np.nan, 0, 5, 5], [9, 9, 3, 3], [5, 60, 500, 999]])
    found = inside(boxes, 64, 64)
    assert found.tolist() == [[1, 2, 5, 6], [0, 0, 3, 3], [0] * 4, [0] * 4, [0, 0, 5, 5], [0] * 4, [5, 60, 64, 64]]
    nothing = np.zeros((3, 4))
    for through in (cut(nothing, (3, 4, 20, 20), 64), mirrored(nothing, 64), warped(nothing, [ops.warp_of("rotate", 0.5, 64)], 64)):
        assert not has_box(through).any()


def test_random_places_are_uniform_and_keep_size_and_motion():
    boxes = np.array([[10.0, 20, 30, 36], [14, 22, 34, 38], [0, 0, 0, 0]])
    found = np.stack([moved_at_random(boxes, 64, seed) for seed in range(2000)])
    assert np.allclose(found[:, :2, 2:] - found[:, :2, :2], boxes[:2, 2:] - boxes[:2, :2])
    assert np.allclose(found[:, 1] - found[:, 0], boxes[1] - boxes[0])
    assert not found[:, 2].any()
    assert found.min() >= 0
    assert found.max() <= 64
    free = np.array([64 - 24, 64 - 18])
    places = found[:, 0, :2] / free
    counts, _ = np.histogram(places[:, 0], 8, (0, 1))
    assert np.abs(counts - 250).max() < 60  # four standard deviations
    assert np.abs(np.corrcoef(places.T)[0, 1]) < 0.08
    assert not np.allclose(moved_at_random(boxes, 64, 5, 0), moved_at_random(boxes, 64, 5, 1))


def test_a_batch_that_asks_for_random_places_gets_them_in_training_and_testing():
    batch = painted(6) | {"box_control": "random"}
    plain = {name: value for name, value in batch.items() if name != "box_control"}
    for transform in (TrainTransform(AugmentConfig(crop="none", **UNIT), SIDE), EvalTransform(AugmentConfig(**UNIT), SIDE, 3)):
        out, true = transform.streams(batch)["boxes"], transform.streams(plain)["boxes"]
        assert not torch.allclose(out, true)
        assert torch.allclose(out[..., 2:] - out[..., :2], true[..., 2:] - true[..., :2], atol=1e-4)
        assert torch.equal(out, transform.streams(batch)["boxes"])


def test_ten_crops_of_boxes_are_mirrored_like_their_pictures():
    out = EvalTransform(AugmentConfig(**UNIT), SIDE, 10).streams(painted(3))
    boxes = out["boxes"].view(3, 2, 5, 3, 4)
    assert torch.allclose(boxes[:, 0, ..., 0], SIDE * (boxes[:, 1, ..., 2] > 0) - boxes[:, 1, ..., 2], atol=1e-4)


def test_flow_and_randaugment_are_refused_with_boxes_as_without():
    batch = painted(2)
    with pytest.raises(UsageError, match="randaugment"):
        TrainTransform(AugmentConfig(randaugment=(5, 0.5)), SIDE).streams(batch | {"modality": "flow"})
