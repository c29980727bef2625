"""Holes: polarity, paste-back, and the fills that need no model."""

import numpy as np
import pytest

from tasks.pseudo.inpaint import Patch, Telea, inpaint
from tasks.pseudo.masks import fill_box, random_mask


class White:
    """Fills with white and keeps what it was given."""

    def fill(self, frames, masks, seeds):
        self.given = frames, masks, seeds
        return np.full_like(frames, 255)


def pictures(n=3, height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (n, height, width, 3), np.uint8)


def holes(n=3, height=40, width=56):
    return np.stack([random_mask(height, width, np.random.default_rng(i)) for i in range(n)])


def test_one_is_the_hole():
    frames = pictures(1, 1, 4)
    made = inpaint(White(), frames, np.array([[[0, 0, 1, 1]]], bool), [0])
    np.testing.assert_array_equal(made[0, 0, :2], frames[0, 0, :2])
    assert (made[0, 0, 2:] == 255).all()


@pytest.mark.parametrize("filler", [White(), Telea(), Patch(pictures(2, 30, 30, 9))], ids=["white", "telea", "patch"])
def test_outside_the_hole_every_pixel_is_the_input(filler):
    frames, masks = pictures(), holes()
    before = frames.copy()
    made = inpaint(filler, frames, masks, [1, 2, 3])
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made[~masks], before[~masks])
    np.testing.assert_array_equal(frames, before)
    assert (made[masks] != before[masks]).mean() > 0.9


def test_telea_continues_a_plain_ground():
    frame = np.full((1, 40, 40, 3), 90, np.uint8)
    frame[0, 10:20, 10:20] = 255
    mask = fill_box(40, 40, (8, 8, 22, 22))[None]
    assert np.abs(inpaint(Telea(), frame, mask, [0]).astype(int) - 90).max() <= 2


def test_a_patch_is_a_piece_of_the_donor_moved_as_a_whole():
    """Donor pixels name their place, so the shift can be read off: one for all pixels of a mask, another for another seed."""
    y, x = np.mgrid[:40, :56]
    donor = np.stack((y, x, y * 0 + 7), -1).astype(np.uint8)[None]
    frames, masks = np.full((5, 40, 56, 3), 250, np.uint8), np.repeat(fill_box(40, 56, (20, 12, 30, 24))[None], 5, 0)
    masks[:, 12, 20] = False
    made = inpaint(Patch(donor), frames, masks, list(range(5)))
    shifts = set()
    for picture, mask in zip(made, masks, strict=True):
        rows, columns = np.nonzero(mask)
        moved = picture[rows, columns, :2].astype(int) - np.stack((rows, columns), -1)
        assert (moved == moved[0]).all()
        shifts.add(tuple(moved[0]))
    assert len(shifts) == 5
    np.testing.assert_array_equal(inpaint(Patch(donor), frames[3:], masks[3:], [3, 4]), made[3:])


def test_a_patch_as_large_as_the_frame_fits():
    frames = pictures(1)
    assert inpaint(Patch(pictures(1, seed=5)), frames, np.ones((1, 40, 56), bool), [0]).shape == frames.shape
