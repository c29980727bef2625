"""Clips of whole blocks, short videos, and what is drawn for a clip and for a frame."""

import numpy as np
import pytest
import torch
from predictive_toys import config

from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.clips import ClipSampler
from tasks.core.data.manifest import Row
from tasks.core.video.reader import VideoError
from tasks.predictive.data import WholeClips, picker


def pick(clip: ClipSampler, pts: np.ndarray, **part) -> np.ndarray:
    return WholeClips(clip, 2)(pts, np.random.default_rng(0), Row("video.mp4", **part)).frames


def test_eight_blocks_of_five_at_a_tenth_of_a_second():
    frames = pick(ClipSampler(40, stride_s=0.1), np.arange(150) / 30)
    assert frames.shape == (2, 40)
    assert (np.diff(frames) == 3).all()
    assert (np.diff(pick(ClipSampler(40, stride_frames=3), np.arange(150) / 30)) == 3).all()


@pytest.mark.parametrize("clip", [ClipSampler(40, stride_s=0.1), ClipSampler(40, stride_frames=3)])
def test_a_clip_must_fit_to_the_frame(clip):
    """Between the first and the last frame of 40 lie 117 others at a stride of 3."""
    assert (pick(clip, np.arange(118) / 30) == np.arange(0, 118, 3)).all()
    with pytest.raises(VideoError, match="too short for a clip"):
        pick(clip, np.arange(117) / 30)
    with pytest.raises(VideoError, match="too short for a clip"):
        pick(clip, np.arange(300) / 30, start_s=2.0, end_s=5.0)


def test_short_videos_are_dropped_or_padded_as_the_setting_says():
    assert picker(config(short="pad")) is None
    assert isinstance(picker(config()), WholeClips)
    assert picker(config(data={"repeats": 3}))(np.arange(20) / 10, np.random.default_rng(0), Row("v")).frames.shape == (3, 8)


def test_colours_change_from_frame_to_frame_and_crops_do_not():
    picture = torch.randint(0, 256, (3, 1, 3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = {"video": picture.expand(-1, 40, -1, -1, -1), "size": torch.tensor([[40, 60]] * 3), "seed": torch.arange(3)}
    augment = config().augment
    assert augment.color_per == "frame"
    still = TrainTransform(augment.model_copy(update={"color": 0.0, "gray": 0.0}), 32)(batch)
    assert torch.equal(still, still[:, :1].expand_as(still))
    assert not torch.equal(still[0], still[1])
    jittered = TrainTransform(augment, 32)(batch)
    assert ((jittered[:, 1:] - jittered[:, :-1]).abs().amax((2, 3, 4)) > 0).all()
