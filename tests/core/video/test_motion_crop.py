"""The square around what moves."""

import torch

from tasks.core.video.augment import EvalTransform, TrainTransform
from tasks.core.video.config import AugmentConfig
from tasks.core.video.motion_crop import boxes_around, motion_squares


def moving(top: int, left: int, side: int, canvas: tuple[int, int] = (120, 160)) -> torch.Tensor:
    """`(1, 6, 3, H, W)`: noise changes inside one square of a still picture."""
    generator = torch.Generator().manual_seed(0)
    clip = torch.full((1, 6, 3, *canvas), 90, dtype=torch.uint8)
    clip[..., top : top + side, left : left + side] = torch.randint(0, 255, (1, 6, 3, side, side), generator=generator, dtype=torch.uint8)
    return clip


def test_square_lies_on_the_motion():
    row, column, half = motion_squares(moving(20, 80, 48), torch.tensor([[120, 160]]))[0].tolist()
    assert abs(row - 44) <= 4
    assert abs(column - 104) <= 4
    assert 20 <= half <= 26


def test_small_motion_far_away_gets_the_smallest_square_and_stillness_the_centre():
    assert motion_squares(moving(8, 8, 8), torch.tensor([[120, 160]]))[0, 2] == 20
    still = torch.full((1, 6, 3, 120, 160), 90, dtype=torch.uint8)
    assert motion_squares(still, torch.tensor([[120, 160]]))[0].tolist() == [60, 80, 60]


def test_padding_is_never_looked_at_and_boxes_stay_inside():
    clip = moving(20, 40, 40)
    clip[..., 100:, :] = torch.randint(0, 255, (1, 6, 3, 20, 160), dtype=torch.uint8)
    clip[..., 110:] = torch.randint(0, 255, (1, 6, 3, 120, 50), dtype=torch.uint8)
    size = torch.tensor([[100, 110]])
    squares = motion_squares(clip, size)
    assert abs(squares[0, 0] - 40) <= 4
    for factor in (0.5, 1.4, 9.0):
        for shift in (-0.9, 0.0, 0.9):
            top, left, height, width = boxes_around(squares, size, factor, shift)[0].tolist()
            assert top >= 0
            assert left >= 0
            assert top + height <= 100
            assert left + width <= 110
            assert height == width


def test_transforms_follow_the_motion():
    batch = {"video": moving(10, 100, 40), "size": torch.tensor([[120, 160]]), "seed": torch.tensor([5])}
    augment = AugmentConfig(crop="motion")
    views = EvalTransform(augment, 32, 3)(batch)
    assert views.shape == (3, 6, 3, 32, 32)
    changing = (views[1, 1:] - views[1, :-1]).abs().mean((0, 1)) > 0.05
    assert changing[8:24, 8:24].float().mean() > 0.9
    first = TrainTransform(augment, 32)(batch)
    assert torch.equal(first, TrainTransform(augment, 32)(batch))
    assert not torch.equal(first, TrainTransform(augment, 32)({**batch, "seed": torch.tensor([6])}))


def test_no_clips():
    batch = {
        "video": torch.zeros(0, 4, 3, 8, 8, dtype=torch.uint8),
        "size": torch.zeros(0, 2, dtype=torch.long),
        "seed": torch.zeros(0, dtype=torch.long),
    }
    assert TrainTransform(AugmentConfig(crop="motion"), 32)(batch).shape == (0, 4, 3, 32, 32)
    assert EvalTransform(AugmentConfig(crop="motion"), 32)(batch).shape == (0, 4, 3, 32, 32)
