"""The square around what moves."""

import pytest
import torch

from tasks.boundaries import config as boundaries
from tasks.core.engine import setup
from tasks.core.video.augment import EvalTransform, TrainTransform
from tasks.core.video.config import AugmentConfig
from tasks.core.video.motion_crop import boxes_around, motion_squares
from tasks.core.video.prepare import squares_of
from tasks.masked.config import PretrainConfig
from tasks.pseudo import config as pseudo


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
    assert 24 <= half <= 29  # two standard deviations of an evenly filled square: 0.58 of its side


def test_a_change_of_light_and_a_thing_far_away_do_not_count():
    """The light changes by up to 10 levels over the whole picture; a small patch in a corner flickers."""
    clip = moving(40, 40, 32, (160, 240)).int() + (10 * torch.linspace(0, 9, 6).cos()).int().view(1, 6, 1, 1, 1)
    clip[..., 150:154, 230:234] += 40 * torch.tensor([0, 1, 0, 1, 0, 1]).view(1, 6, 1, 1, 1)
    row, column, half = motion_squares(clip.clamp(0, 255).to(torch.uint8), torch.tensor([[160, 240]]))[0].tolist()
    assert abs(row - 56) <= 4
    assert abs(column - 56) <= 4
    assert 15 <= half <= 22


def test_faint_motion_is_found_where_there_is_no_other():
    clip = 90 + (moving(40, 40, 32).int() - 90) // 32
    row, column, _ = motion_squares(clip.to(torch.uint8), torch.tensor([[120, 160]]))[0].tolist()
    assert abs(row - 56) <= 4
    assert abs(column - 56) <= 4


def test_small_motion_far_away_gets_the_smallest_square_and_stillness_the_centre():
    assert motion_squares(moving(8, 8, 8), torch.tensor([[120, 160]]))[0, 2] == 10
    still = torch.full((1, 6, 3, 120, 160), 90, dtype=torch.uint8)
    assert motion_squares(still, torch.tensor([[120, 160]]))[0].tolist() == [60, 80, 60]


def test_padding_is_never_looked_at_and_boxes_stay_inside():
    clip = moving(20, 40, 40)
    clip[..., 100:, :] = torch.randint(0, 255, (1, 6, 3, 20, 160), dtype=torch.uint8)
    clip[..., 110:] = torch.randint(0, 255, (1, 6, 3, 120, 50), dtype=torch.uint8)
    size = torch.tensor([[100, 110]])
    squares = motion_squares(clip, size)
    assert abs(squares[0, 0] - 40) <= 4
    assert torch.equal(squares, motion_squares(clip[..., :100, :110], size))
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


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 120, 160), (3, 5, 7), (2, 1, 1)])
def test_single_frames_and_odd_or_tiny_pictures_have_a_square(frames, height, width):
    clip = torch.randint(0, 255, (1, frames, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    row, column, half = motion_squares(clip, torch.tensor([[height, width]]))[0].tolist()
    assert 0 <= row <= height
    assert 0 <= column <= width
    assert half == min(height, width) / 2


def test_one_clip_at_a_time_gives_what_all_give():
    clips = torch.cat((moving(20, 80, 48), moving(60, 10, 20), torch.full((1, 6, 3, 120, 160), 90, dtype=torch.uint8)))
    size = torch.tensor([[120, 160]] * 3)
    assert torch.equal(motion_squares(clips, size), torch.cat([motion_squares(clip[None], size[:1]) for clip in clips]))


def test_no_clips():
    batch = {
        "video": torch.zeros(0, 4, 3, 8, 8, dtype=torch.uint8),
        "size": torch.zeros(0, 2, dtype=torch.long),
        "seed": torch.zeros(0, dtype=torch.long),
    }
    assert TrainTransform(AugmentConfig(crop="motion"), 32)(batch).shape == (0, 4, 3, 32, 32)
    assert EvalTransform(AugmentConfig(crop="motion"), 32)(batch).shape == (0, 4, 3, 32, 32)


@pytest.mark.parametrize("crop", ["motion", "center"])
def test_transforms_show_flow_of_the_crop_at_twice_the_size(crop):
    """A square that slides to the right is red above the middle wherever it moves; mirrored in training it slides to the left."""
    clip = torch.full((1, 6, 3, 120, 160), 90, dtype=torch.uint8)
    inside = torch.randint(0, 255, (1, 1, 3, 10, 10), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    inside = inside.repeat_interleave(4, -1).repeat_interleave(4, -2)
    for t in range(6):
        clip[:, t, :, 40:80, 40 + 3 * t : 80 + 3 * t] = inside[:, 0]
    batch = {"video": clip, "size": torch.tensor([[120, 160]]), "seed": torch.tensor([5])}
    settings = {"crop": crop, "flow": "dis", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    for views in (EvalTransform(AugmentConfig(**settings), 32, 3)(batch), TrainTransform(AugmentConfig(**settings), 32)(batch)):
        assert views.shape[1:] == (6, 3, 32, 32)
        assert views.abs().max() <= 1
        fast = views[:, :, 0].abs() > 0.3
        assert fast.any()
        assert views[:, :, 0][fast].min() > 0
        assert views[:, :, 2].abs().max() < 1e-6
    mirrored = TrainTransform(AugmentConfig(**settings, flip=1.0), 32)(batch)
    assert mirrored[:, :, 0][mirrored[:, :, 0].abs() > 0.3].max() < 0


def test_colours_of_flow_are_not_jittered():
    with pytest.raises(ValueError, match=r"do not go with augment\.flow"):
        AugmentConfig(flow="dis", color=0.4)


def test_a_model_folder_tells_that_a_model_sees_flow():
    augment = AugmentConfig(crop="motion", motion_margin=1.8, flow="tvl1", mean=(0.5,) * 3, std=(0.5,) * 3)
    config = PretrainConfig(data={"clip": {"frames": 16, "stride_s": 0.1}}, augment=augment)
    saved = setup.preprocessing(config, [])
    assert saved["flow"] == "tvl1"
    assert squares_of(saved) == augment
    assert squares_of({name: value for name, value in saved.items() if name != "flow"}).flow is None  # folders of before


@pytest.mark.parametrize("config", [boundaries.PretrainConfig, boundaries.FinetuneConfig, pseudo.PretrainConfig])
def test_what_needs_colours_refuses_flow(config):
    given = config().augment.model_dump() | {"flow": "dis", "color": 0, "gray": 0}
    with pytest.raises(ValueError, match=r"augment\.flow"):
        config(augment=given)
