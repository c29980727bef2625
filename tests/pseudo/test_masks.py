"""Masks: random ones, objects, motion, boxes of a file."""

import math

import numpy as np
import pytest
import torch

from tasks.core.errors import UsageError
from tasks.core.video.reader import VideoError
from tasks.pseudo import masks, objects


@pytest.mark.parametrize("size", [(64, 96), (240, 360), (32, 32), (16, 200)])
def test_random_masks_have_holes_of_the_right_shape(size):
    made = [masks.random_mask(*size, np.random.default_rng(seed)) for seed in range(60)]
    assert all(mask.shape == size and mask.dtype == bool and 0 < mask.mean() < 1 for mask in made)
    assert len({mask.tobytes() for mask in made}) == 60
    again = masks.random_mask(*size, np.random.default_rng(7))
    np.testing.assert_array_equal(again, made[7])


def test_boxes_keep_lamas_sizes_and_margin():
    """At 256 px: 1..3 rectangles of 30-100 px, 10 px from the border. One alone can be measured."""
    single = 0
    for seed in range(200):
        mask = masks.rectangles(256, 256, np.random.default_rng(seed), 1.0)
        assert mask.sum() == mask[10:-10, 10:-10].sum()
        x1, y1, x2, y2 = masks.rectangle_of(mask)
        if mask.sum() == (x2 - x1) * (y2 - y1):
            single += 1
            assert 30 <= x2 - x1 <= 100
            assert 30 <= y2 - y1 <= 100
    assert single > 40


def test_strokes_keep_lamas_widths(monkeypatch):
    """One polyline of one segment: no longer than 70 + 25 px, and its area is that of a thick line with round ends."""
    monkeypatch.setattr(masks, "_POLYLINES", (1, 1))
    monkeypatch.setattr(masks, "_SEGMENTS", (1, 1))
    for seed in range(50):
        mask = masks.strokes(600, 600, np.random.default_rng(seed), 1.0)
        x1, y1, x2, y2 = masks.rectangle_of(mask)
        length = math.hypot(x2 - x1, y2 - y1)
        assert length <= 70 + 25 * math.sqrt(2) + 3
        assert mask.sum() <= 70 * 26 + math.pi * 13.5**2
        if min(x1, y1) > 0 and max(x2, y2) < 600:
            assert mask.sum() >= 0.9 * (10 * 5 + math.pi * 2.5**2)


def test_sizes_follow_the_short_side():
    areas = [np.mean([masks.random_mask(s, s, np.random.default_rng(i)).mean() for i in range(300)]) for s in (64, 256)]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)
    fixed = np.mean([masks.random_mask(64, 64, np.random.default_rng(i), 256).mean() for i in range(300)])
    assert fixed > 2 * areas[0]


def test_rectangle_of_is_tight_and_half_open():
    mask = np.zeros((9, 12), bool)
    mask[2, 3] = mask[5, 7] = True
    assert masks.rectangle_of(mask) == (3, 2, 8, 6)
    with pytest.raises(ValueError, match="empty"):
        masks.rectangle_of(np.zeros((3, 3), bool))


def test_a_box_covers_the_pixels_it_touches_and_may_reach_out():
    assert masks.rectangle_of(masks.fill_box(10, 12, (1.5, 2.0, 4.0, 5.2))) == (1, 2, 4, 6)
    assert masks.rectangle_of(masks.fill_box(10, 12, (-3, -3, 2, 2))) == (0, 0, 2, 2)
    assert not masks.fill_box(10, 12, (20, 2, 30, 5)).any()


def test_a_moving_region_is_found_also_when_the_camera_pans():
    rng = np.random.default_rng(0)
    for pan in (0.0, 3.0):
        flow = rng.normal(0, 0.05, (2, 80, 120)).astype(np.float32)
        flow[0] += pan
        flow[0, 20:50, 30:60] += 4
        found = masks.moving_regions(flow, 0.3)
        assert len(found) == 1
        x1, y1, x2, y2 = masks.rectangle_of(found[0])
        assert max(abs(x1 - 28), abs(y1 - 18), abs(x2 - 62), abs(y2 - 52)) <= 2
    assert masks.moving_regions(rng.normal(0, 0.05, (2, 80, 120)).astype(np.float32), 0.3) == []
    assert masks.moving_regions(flow, 0.05) == []


def box(x, height=40, width=60):
    return masks.fill_box(height, width, (x, 10, x + 8, 20))


def test_no_object_means_a_random_mask_that_depends_on_seed_and_frame_only():
    def chooser(seed=1):
        return masks.Chooser(40, 60, [seed, 2], 1, "boxes")

    mask, kind = chooser().choose(5, [box(3)])
    assert kind == "boxes"
    np.testing.assert_array_equal(mask, box(3))
    fallback = chooser().choose(5, [])
    assert fallback[1] == "random"
    one = chooser()
    for frame in range(5):
        one.choose(frame, [box(3)])
    np.testing.assert_array_equal(one.choose(5, [np.zeros((40, 60), bool)])[0], fallback[0])
    assert (chooser(2).choose(5)[0] != fallback[0]).any()
    assert (chooser().choose(6)[0] != fallback[0]).any()


def test_one_of_several_objects_is_chosen_by_chance():
    chooser = masks.Chooser(40, 60, [0], 1, "boxes")
    starts = [masks.rectangle_of(chooser.choose(t, [box(3), box(23), box(43)])[0])[0] for t in range(300)]
    assert {start: starts.count(start) for start in sorted(set(starts))} == pytest.approx({3: 100, 23: 100, 43: 100}, abs=30)


def test_held_masks_stay_and_held_objects_are_followed():
    chooser = masks.Chooser(40, 60, [0], 8, "boxes")
    random = [chooser.choose(t)[0] for t in range(16)]
    assert all((mask == random[0]).all() for mask in random[:8])
    assert (random[8] != random[0]).any()
    for seed in range(8):
        chooser = masks.Chooser(40, 60, [seed], 100, "boxes")
        # two objects that move towards each other, listed in changing order
        tracks = [masks.rectangle_of(chooser.choose(t, [box(2 + t), box(45 - t)][:: 1 if t % 2 else -1])[0])[0] for t in range(12)]
        assert tracks in ([2 + t for t in range(12)], [45 - t for t in range(12)])


@pytest.fixture
def box_file(tmp_path):
    file = tmp_path / "boxes.csv"
    file.write_text(
        "video,frame,x1_px,y1_px,x2_px,y2_px,score\n"
        "train/01.mp4,0,10,20,30,40,0.9\ntrain/01.mp4,0,10,20,30,40,0.2\ntrain/01.mp4,3,0,0,60,40,0.9\ntest/01.mp4,0,1,1,5,5,.1\n"
    )
    return file


def test_boxes_belong_to_the_video_that_the_file_names(box_file, tmp_path):
    boxes = objects.ObjectBoxes(box_file, 0.5, 0.3)
    assert {frame: found.tolist() for frame, found in boxes.of("/data/ped2/train/01.mp4").items()} == {
        0: [[10, 20, 30, 40]],
        3: [[0, 0, 60, 40]],
    }
    assert boxes.of(str(tmp_path / "test" / "01.mp4")) == {}
    assert boxes.of("/data/ped2/train/02.mp4") is None
    box_file.write_text(box_file.read_text() + "../q/train/01.mp4,0,1,1,5,5,.9\n./train/01.mp4,0,1,1,5,5,.9\n")
    with pytest.raises(VideoError, match="names it in several ways"):
        objects.ObjectBoxes(box_file, 0.5, 0.3).of(str(box_file.parent / "train" / "01.mp4"))


def test_boxes_are_scaled_and_large_ones_are_passed_over(box_file):
    boxes = objects.ObjectBoxes(box_file, 0.5, 0.3)
    found = boxes.of("/x/train/01.mp4")
    (mask,) = boxes.masks(found[0], 60, 90, (0.5, 2.0))
    assert masks.rectangle_of(mask) == (5, 40, 15, 60)
    assert boxes.masks(found[3], 60, 90, (1, 1)) == []


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """The real network with random weights."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    with torch.device("meta"):  # its own random start takes seconds
        shapes = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.02 * torch.randn(value.shape, generator=generator).abs() for name, value in shapes.items()}
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(state, file)
    return objects.Segmenter(str(file), 0.0105, 0.3, torch.device("cpu"), side_px=32)


def test_the_real_network_runs_with_weights_from_a_file(segmenter):
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 56, 3), np.uint8)
    found = segmenter.find(frames)
    assert len(found) == 2
    assert all(mask.shape == (40, 56) and mask.dtype == bool and 0 < mask.mean() < 0.3 for masks_ in found for mask in masks_)


def test_unsure_large_and_empty_objects_are_passed_over(segmenter):
    soft = torch.zeros(4, 1, 10, 10)
    soft[0, 0, :5, :5] = 0.5
    soft[1, 0, :9, :9] = 0.9
    soft[2, 0, 2, 2] = 0.9
    soft[3] = 0.49
    found = segmenter.usable({"scores": torch.tensor([0.9, 0.9, 0.01, 0.9]), "masks": soft})
    assert len(found) == 1
    assert masks.rectangle_of(found[0]) == (0, 0, 5, 5)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="maskrcnn_resnet50_fpn_v2") as told:
        objects.Segmenter(None, 0.5, 0.3, torch.device("cpu"))
    assert str(tmp_path) in told.value.message
    assert "--masks random" in told.value.hint
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"w\.pth"):
        objects.Segmenter(str(tmp_path / "w.pth"), 0.5, 0.3, torch.device("cpu"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="does not hold"):
        objects.Segmenter(str(tmp_path / "w.pth"), 0.5, 0.3, torch.device("cpu"))
