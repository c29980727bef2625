"""Boxes of single frames from made motion maps, and the rules for the boxes of a video beside a slow reference."""

import cv2
import numpy as np
import pytest

from tasks.core.flow.box_rules import CODE, PAPER, central_half, moving_box, settle

H, W = 240, 320
BOTH = pytest.mark.parametrize("rules", [PAPER, CODE], ids=["paper", "code"])


def rings(*squares, value=20.0):
    """A motion map: outlines, 4 px thick, of squares x, y, side."""
    motion = np.zeros((H, W), np.float32)
    for x, y, side in squares:
        cv2.rectangle(motion, (x + 2, y + 2), (x + side - 3, y + side - 3), value, 4)
    return motion


def holds(box, x, y, side):
    return box[0] <= x and box[1] <= y and box[2] >= x + side and box[3] >= y + side


@BOTH
def test_nothing_moves(rules):
    assert moving_box(np.zeros((H, W), np.float32), rules) is None


def test_what_is_weak_is_rest_in_the_paper_mode():
    assert moving_box(rings((100, 100, 40), value=0.03), PAPER) is None
    assert moving_box(rings((100, 100, 40), value=0.2), PAPER) is not None


def test_the_border_of_the_frame_does_not_count():
    motion = np.zeros((H, W), np.float32)
    motion[:7] = motion[:, :7] = motion[-7:] = motion[:, -7:] = 9
    assert moving_box(motion, PAPER) is None


def test_the_box_of_the_paper_mode_is_tight():
    box = moving_box(rings((100, 90, 50)), PAPER)
    np.testing.assert_allclose(box, (100, 90, 150, 140), atol=3)


@BOTH
def test_two_areas_that_are_near_get_one_box(rules):
    box = moving_box(rings((70, 100, 40), (165, 110, 30)), rules)
    assert holds(box, 73, 103, 34)
    assert holds(box, 168, 113, 24)


@BOTH
def test_of_two_areas_that_are_far_apart_the_larger_counts(rules):
    box = moving_box(rings((15, 15, 60), (270, 190, 30), value=30.0), rules)
    assert holds(box, 18, 18, 54)
    assert box[2] < 260


def test_a_third_area_does_not_count():
    """Three in a row, apart by more than the wide Gaussian joins, within the distance of two."""
    motion = rings((20, 20, 44), (120, 20, 40), (230, 150, 30))
    assert moving_box(motion, PAPER)[2] == pytest.approx(160, abs=4)


def slow_box(motion, rules):
    """The steps once more, with SciPy's Gaussians at full size and OpenCV's contours."""
    from scipy import ndimage

    m = motion.astype(np.float64).copy()
    m[:8] = m[-8:] = m[:, :8] = m[:, -8:] = 0
    m = ndimage.gaussian_filter(m, 1)
    m[m < 0.4 * m.max()] = 0
    m[m < rules.floor] = 0
    m[m < 1.5 * m.std()] = 0
    wide = ndimage.gaussian_filter(m, 30)
    area = (wide > 0) & (wide >= rules.level) & (wide >= rules.level_of_max * wide.max())
    contours, _ = cv2.findContours(area.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contours = sorted(contours, key=cv2.contourArea, reverse=True)[:2]
    if not contours:
        return None
    centres = [np.mean(contour[:, 0], 0) for contour in contours]
    if len(contours) == 2 and np.linalg.norm(centres[0] - centres[1]) > 0.4 * np.hypot(H, W):
        contours = contours[:1]
    filled = cv2.drawContours(np.zeros((H, W), np.uint8), contours, -1, 1, -1).astype(bool)
    if rules.tight:
        filled &= m > 0
    ys, xs = np.nonzero(filled)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


@BOTH
@pytest.mark.parametrize("seed", range(6))
def test_boxes_are_those_of_the_slow_reference(rules, seed):
    rng = np.random.default_rng(seed)
    squares = [(*rng.integers(10, (250, 170)), int(rng.integers(20, 60))) for _ in range(1 + seed % 3)]
    motion = rings(*squares, value=40.0) + rng.exponential(1.0, (H, W)).astype(np.float32)
    np.testing.assert_allclose(moving_box(motion, rules), slow_box(motion, rules), atol=3)


def test_lengths_are_scaled_with_the_frame():
    large = rings((60, 60, 60), (180, 60, 40))
    small = cv2.resize(large, (W // 2, H // 2), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(np.array(moving_box(small, PAPER)) * 2, moving_box(large, PAPER), atol=5)


def slow_settle(found, height, width, rules):
    """The rules frame by frame, as sentences."""
    boxes = []
    for number, box in enumerate(found.tolist()):
        nothing = any(np.isnan(box))
        boxes.append(box if not nothing else boxes[-1] if number else [width / 4, height / 4, width * 3 / 4, height * 3 / 4])
    usable = []
    for number, own in enumerate(boxes):
        box, at = own, number
        while at < len(boxes) and (too_large(box, height, width, rules) or too_small(box, height, width, rules)):
            at += 1
            box = boxes[at] if at < len(boxes) else None
        if box is None:
            halved = [corner / 2 for corner in own]
            box = halved if too_large(own, height, width, rules) else [width / 4, height / 4, width * 3 / 4, height * 3 / 4]
        usable.append(box)
    made, steady = [], None
    for number, box in enumerate(usable):
        before = usable[:number] if rules.memory_frames is None else usable[:number][-rules.memory_frames :]
        if before:
            means = [sum(b[k] for b in before) / len(before) for k in range(4)]
            variance = sum((box[k] - means[k]) ** 2 for k in range(4)) / 4
            if variance > 0.1 * (box[2] - box[0]) * (box[3] - box[1]):
                box = steady
        steady = box
        x1, y1, x2, y2 = box
        across = 0.05 * (x2 - x1) if x2 - x1 <= 0.4 * width else 0
        down = 0.05 * (y2 - y1) if y2 - y1 <= 0.4 * height else 0
        made.append([max(0, x1 - across), max(0, y1 - down), min(width, x2 + across), min(height, y2 + down)])
    return made


def too_large(box, height, width, rules):
    return box[2] - box[0] > rules.largest_side * width or box[3] - box[1] > rules.largest_side * height


def too_small(box, height, width, rules):
    return (box[2] - box[0]) * (box[3] - box[1]) < rules.smallest_area * height * width


@BOTH
@pytest.mark.parametrize("seed", range(12))
def test_rules_are_those_of_the_slow_reference(rules, seed):
    """Boxes that drift, jump, vanish, and are too large or too small."""
    rng = np.random.default_rng(seed)
    centre = np.cumsum(rng.normal(0, 6, (40, 2)), 0) + np.array([160, 120])
    side = rng.uniform(20, 70, (40, 2)) * rng.choice([0.15, 1, 1, 1, 6], (40, 1))
    boxes = np.concatenate((centre - side / 2, centre + side / 2), 1)
    boxes = np.clip(boxes, 0, [W, H, W, H])
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(1) | (rng.random(40) < 0.15)
    if seed % 3 == 0:
        boxes[-4:] = (5, 5, W - 5, H - 5)
        empty[-4:] = False
    boxes[empty] = np.nan
    np.testing.assert_allclose(settle(boxes, H, W, rules), slow_settle(boxes, H, W, rules), rtol=0, atol=1e-3)


@BOTH
def test_boxes_stay_in_the_frame_and_are_never_empty(rules):
    rng = np.random.default_rng(1)
    low = rng.uniform(0, (W - 1, H - 1), (200, 2))
    found = np.concatenate((low, low + rng.uniform(0, (W, H) - low)), 1)
    found[rng.random(200) < 0.3] = np.nan
    made = settle(found, H, W, rules)
    assert (made[:, :2] >= 0).all()
    assert (made[:, 2:] <= (W, H)).all()
    assert (made[:, 2:] - made[:, :2] >= 1).all()


@BOTH
def test_a_video_without_motion_has_the_central_half(rules):
    made = settle(np.full((3, 4), np.nan), H, W, rules)
    np.testing.assert_array_equal(made, [central_half(H, W)] * 3)
    np.testing.assert_array_equal(central_half(H, W), (80, 60, 240, 180))


def test_the_paper_mode_follows_what_crosses_the_frame():
    """The code's mean over all earlier boxes holds a box back for good."""
    found = np.array([(10.0 + 3 * t, 80, 60 + 3 * t, 130) for t in range(60)])
    assert np.abs(settle(found, H, W, PAPER)[:, 0] - found[:, 0]).max() < 4
    assert np.abs(settle(found, H, W, CODE)[-1, 0] - found[-1, 0]) > 50


def test_an_outlier_is_replaced_by_the_box_before():
    found = np.array([(100.0, 80, 150, 130)] * 9)
    found[5] = (200, 20, 260, 60)
    made = settle(found, H, W, PAPER)
    np.testing.assert_array_equal(made[5], made[4])
