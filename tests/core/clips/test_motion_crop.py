"""The square around what moves."""

import pytest
import torch

from tasks.boundaries import config as boundaries
from tasks.core.clips.augment import EvalTransform, TrainTransform
from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig
from tasks.core.clips.motion_crop import boxes_around, motion_squares
from tasks.core.clips.prepare import clip_of, squares_of
from tasks.core.engine import setup
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


def textured(canvas: tuple[int, int] = (160, 240), noise: float = 1.5) -> torch.Tensor:
    """`(1, 8, 3, H, W)` float: a still picture full of edges under a sensor's noise."""
    generator = torch.Generator().manual_seed(1)
    picture = torch.randint(40, 200, (1, 1, 3, canvas[0] // 8, canvas[1] // 8), generator=generator)
    picture = picture.repeat_interleave(8, -1).repeat_interleave(8, -2).float()
    return picture + noise * torch.randn(1, 8, 3, *canvas, generator=generator)


def walking(clip: torch.Tensor, contrast: float, top: int = 40, left: int = 30, side: int = 32, step: int = 4) -> torch.Tensor:
    """A square of light and dark blocks that walks to the right in front of a clip; uint8."""
    block = (torch.arange(side)[:, None] // 8 + torch.arange(side) // 8) % 2 * 2 - 1
    for t in range(clip.shape[1]):
        clip[:, t, :, top : top + side, left + step * t : left + step * t + side] += contrast * block
    return clip.round().clamp(0, 255).to(torch.uint8)


def on_the_walk(square: torch.Tensor) -> bool:
    """The walk fills rows 40 to 72 and columns 30 to 90."""
    row, column, half = square.tolist()
    return abs(row - 56) <= 6 and abs(column - 60) <= 8 and 18 <= half <= 42


@pytest.mark.parametrize("contrast", [80.0, 7.0])
def test_strong_and_faint_motion_are_found_under_noise(contrast):
    assert on_the_walk(motion_squares(walking(textured(), contrast), torch.tensor([[160, 240]]))[0])


def test_a_change_of_light_does_not_count():
    """A lamp to the right goes up and down: by up to a fifth, and more the nearer."""
    light = 1 + 0.2 * torch.linspace(0, 1, 240) * torch.linspace(0, 9, 8).sin().view(1, 8, 1, 1, 1)
    assert on_the_walk(motion_squares(walking(textured() * light, 80.0), torch.tensor([[160, 240]]))[0])


@pytest.mark.parametrize("contrast", [80.0, 7.0])
def test_something_that_blinks_far_away_does_not_count(contrast):
    clip = textured()
    clip[..., 150:153, 230:233] += 60 * (torch.arange(8) % 2).view(1, 8, 1, 1, 1)
    assert on_the_walk(motion_squares(walking(clip, contrast), torch.tensor([[160, 240]]))[0])


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_noise_is_no_motion(noise):
    still = textured(noise=noise).round().clamp(0, 255).to(torch.uint8)
    assert motion_squares(still, torch.tensor([[160, 240]]))[0].tolist() == [80, 120, 80]


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


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 120, 160), (3, 5, 7), (2, 1, 1), (4, 121, 163)])
def test_single_frames_and_odd_or_tiny_pictures_have_a_square(frames, height, width):
    clip = torch.randint(0, 255, (1, frames, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    row, column, half = motion_squares(clip, torch.tensor([[height, width]]))[0].tolist()
    assert row == pytest.approx(height / 2, abs=2)
    assert column == pytest.approx(width / 2, abs=2)
    assert half == min(height, width) / 2


def test_clips_of_different_sizes_in_a_batch_have_the_squares_they_have_alone():
    sizes = torch.tensor([[120, 160], [90, 101], [120, 130]])
    clips = torch.cat((moving(20, 80, 48), moving(30, 10, 20), moving(60, 60, 40)))
    alone = [motion_squares(clip[None, ..., :h, :w], size[None]) for clip, size, (h, w) in zip(clips, sizes, sizes.tolist(), strict=True)]
    assert torch.equal(motion_squares(clips, sizes), torch.cat(alone))


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
    clip = ClipConfig(frames=16, stride_s=0.1, stretch=True)
    assert clip_of(setup.preprocessing(config.model_copy(update={"data": DataConfig(clip=clip)}), [])) == clip
    assert squares_of({name: value for name, value in saved.items() if name != "flow"}).flow is None  # folders of before


@pytest.mark.parametrize("config", [boundaries.PretrainConfig, boundaries.FinetuneConfig, pseudo.PretrainConfig])
def test_what_needs_colours_refuses_flow(config):
    given = config().augment.model_dump() | {"flow": "dis", "color": 0, "gray": 0}
    with pytest.raises(ValueError, match=r"augment\.flow"):
        config(augment=given)
