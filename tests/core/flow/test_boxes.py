"""Motion boxes of clips in which it is known what moves; streams in parts; what cannot be used."""

import numpy as np
import pytest
import torch
from moving_square import clip, iou
from PIL import Image

from tasks.core.errors import InputError
from tasks.core.flow import boxes as module
from tasks.core.flow.boxes import MotionBoxes
from tasks.core.flow.boxes_config import MotionBoxConfig
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

SQUARE = (40, 35, 44, (3, 1))


def finder(mode="paper", flow="dis", **more):
    return MotionBoxes(MotionBoxConfig(mode=mode, flow=flow, **more))


@pytest.mark.parametrize("kind", ["still", "pan", "shake", "zoom"])
def test_the_box_is_on_the_square_however_the_camera_moves(kind):
    pictures, truth = clip([SQUARE], kind)
    made = finder().of_pictures(pictures)
    assert (made.dtype, made.shape) == (np.float32, (10, 4))
    assert iou(made, truth[:, 0]).mean() > 0.5


def test_our_tvl1_finds_it_too():
    pictures, truth = clip([SQUARE], "pan", frames=4)
    assert iou(finder(flow="tvl1").of_pictures(torch.from_numpy(pictures)), truth[:, 0]).mean() > 0.5


def test_the_wide_box_of_the_code_holds_the_square():
    pictures, truth = clip([(60, 45, 24, (2, 1))], "pan", frames=12)
    made = finder("code").of_pictures(pictures)
    assert (made[:, :2] <= truth[:, 0, :2] + 2).all()
    assert (made[:, 2:] >= truth[:, 0, 2:] - 2).all()


@pytest.mark.parametrize("mode", ["paper", "code"])
@pytest.mark.parametrize("frames", [1, 5])
def test_a_still_clip_has_the_central_half(mode, frames):
    pictures, _ = clip([], "still", frames=frames)
    np.testing.assert_array_equal(finder(mode).of_pictures(pictures), [(40, 30, 120, 90)] * frames)


def test_two_squares_near_each_other_and_far_apart():
    near = [(30, 40, 30, (2, 1)), (76, 44, 24, (-2, 0))]
    pictures, truth = clip(near, frames=6)
    both = np.concatenate((truth[:, :, :2].min(1), truth[:, :, 2:].max(1)), 1)
    assert iou(finder().of_pictures(pictures), both).mean() > 0.5
    pictures, truth = clip([(12, 12, 40, (2, 1)), (128, 88, 14, (-1, 0))], frames=6)
    made = finder().of_pictures(pictures)
    assert iou(made, truth[:, 0]).mean() > 0.5
    assert (made[:, 2] < truth[:, 1, 0]).all()


def test_boxes_are_in_the_pixels_of_the_pictures():
    """Large frames are scaled down for their flow, boxes are not."""
    pictures, truth = clip([SQUARE], "still", frames=6)
    large = pictures.repeat(2, 1).repeat(2, 2)
    made = finder(short_side=120).of_pictures(large)
    assert iou(made, 2 * truth[:, 0]).mean() > 0.5
    np.testing.assert_allclose(made, 2 * finder().of_pictures(pictures), atol=8)


def video_of(folder, pictures):
    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_a_stream_equals_the_whole(tmp_path, monkeypatch, mode):
    pictures, _ = clip([SQUARE], "shake", frames=14)
    whole = finder(mode).of_pictures(pictures)
    behind = []
    for window in (1, 3, 13, 14, 40):
        monkeypatch.setattr(module, "_WINDOW", window)
        with open_video(video_of(tmp_path / str(window), pictures)) as reader:
            parts = list(finder(mode).stream(reader, advance=behind.append))
        assert max(map(len, parts)) <= window + 8
        np.testing.assert_array_equal(finder(mode).settle(np.concatenate(parts), 120, 160), whole)
    assert sum(behind) == 5 * 14
    with open_video(tmp_path / "3") as reader:
        part = np.concatenate(list(finder(mode).stream(reader, 4, 11)))
    np.testing.assert_array_equal(finder(mode).settle(part, 120, 160), finder(mode).of_pictures(pictures[4:11]))


def test_frames_that_are_too_small(tmp_path):
    tiny = np.zeros((3, 11, 40, 3), np.uint8)
    with pytest.raises(InputError, match="40x11 px are too small for optical flow"):
        finder().of_pictures(tiny)
    with open_video(video_of(tmp_path / "tiny", tiny)) as reader, pytest.raises(VideoError, match="too small for optical flow"):
        list(finder().stream(reader))


def test_noise_on_a_wall_does_not_move():
    """Without texture, flow follows the noise: of flat frames nothing but noise is left."""
    noise = np.random.default_rng(0).integers(0, 3, (4, 120, 160, 1), dtype=np.uint8)
    pictures = 120 + noise.repeat(3, -1)
    np.testing.assert_array_equal(finder().of_pictures(pictures), [(40, 30, 120, 90)] * 4)
