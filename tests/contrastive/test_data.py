"""Which clips a pair has, who is augmented how, and what counts as one source."""

import numpy as np
import pytest
import torch
from contrastive_helpers import config

from tasks.contrastive.data import PairPicker, PairViews, source_numbers
from tasks.core.clips.clips import ClipSampler
from tasks.core.data.rows import Row, Rows
from tasks.core.video.reader import VideoError


def drawn(picker: PairPicker, pts: np.ndarray, row: Row, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    found = [picker(pts, np.random.default_rng(seed), row) for seed in range(count)]
    return np.concatenate([each.frames for each in found]), np.concatenate([each.values["one_clip"] for each in found])


def test_half_of_the_pairs_are_one_clip_and_half_are_two():
    pts = np.arange(90) / 30
    frames, one = drawn(PairPicker(ClipSampler(8), 0.5), pts, Row("video.mp4"))
    first, second = frames[:, :8], frames[:, 8:]
    assert (np.diff(first) == 1).all()
    assert (np.diff(second) == 1).all()
    assert 0.4 < one.mean() < 0.6
    assert (first[one] == second[one]).all()
    different = (first != second).any(1)
    assert different[~one].mean() > 0.9  # they fall on each other by chance
    assert (frames.min(), frames.max()) == (0, 89)


def test_a_row_may_name_a_part_and_one_visit_may_give_several_pairs():
    pts = np.arange(90) / 30
    frames, _ = drawn(PairPicker(ClipSampler(8), 0.0, repeats=2), pts, Row("video.mp4", start_s=1.0, end_s=2.0), 20)
    assert frames.shape == (40, 16)
    assert frames.min() >= 30
    assert frames.max() < 60


def test_short_videos_end_in_a_still_and_very_short_ones_are_skipped():
    picker = PairPicker.from_config(config(data={"clip": {"frames": 8, "stride_frames": 1}}))
    frames, _ = drawn(picker, np.arange(5) / 30, Row("video.mp4"), 3)
    assert frames[:, 4:8].max() == 4
    with pytest.raises(VideoError, match="it has 3 frames, fewer than 4"):
        picker(np.arange(3) / 30, np.random.default_rng(0), Row("video.mp4"))


def batch(rows: int = 2, frames: int = 4, flow: bool = False, one_clip: bool = False) -> dict:
    draws = np.random.default_rng(0)
    video = torch.from_numpy(draws.integers(0, 256, (rows, 2 * frames, 3, 40, 50), dtype=np.uint8))
    if one_clip:
        video[:, frames:] = video[:, :frames]
    sizes = torch.tensor([[40, 50]] * rows, dtype=torch.int64).reshape(-1, 2)
    streams = {"flow": video.clone(), "flow_size": sizes.clone()} if flow else {}
    seeds = torch.arange(rows) + 7
    numbers = {"uid": torch.arange(rows), "label": torch.arange(rows), "one_clip": torch.tensor([one_clip] * rows, dtype=torch.bool)}
    return {"main": "video", "video": video, "size": sizes, "seed": seeds, "modality": "rgb", **streams, **numbers}


PLAIN = {"crop": "resized", "scale": (0.3, 0.8), "flip": 0.5, "color": 0.0, "gray": 0.0, "blur": 0.0, "color_flow": True}


def test_views_have_the_shape_that_the_methods_take():
    views = PairViews(config(), np.array([5, 5]), labelled=True)
    out = views(batch(), torch.device("cpu"))
    assert out["video"].shape == (2, 2, 4, 3, 32, 32)
    assert out["source"].tolist() == [5, 5]
    assert out["label"].tolist() == [0, 1]
    assert "label" not in PairViews(config(), np.array([5, 5]))(batch(), torch.device("cpu"))
    assert PairViews(config(), np.array([5, 5]))(batch(0), torch.device("cpu"))["video"].shape == (0, 2, 4, 3, 32, 32)


def test_frames_and_flow_are_cropped_and_flipped_alike():
    """The flow here is a copy of the frames and keeps the sign of u, so that both come out the same."""
    settings = config("coclr", augment={**PLAIN, "flip_u": False}, pairs={"full": 0.5})
    out = PairViews(settings, np.arange(2))(batch(flow=True), torch.device("cpu"))
    assert torch.equal(out["video"], out["flow"])
    assert not torch.equal(out["video"][:, 0], out["video"][:, 1])


def test_a_clip_does_not_depend_on_its_batch():
    views = PairViews(config(pairs={"full": 0.5}), np.arange(8))
    whole = batch(8)
    together = views(whole, torch.device("cpu"))["video"]
    for row in (0, 5):
        alone = {name: value[row : row + 1] if isinstance(value, torch.Tensor) else value for name, value in whole.items()}
        torch.testing.assert_close(views(alone, torch.device("cpu"))["video"][0], together[row])


def test_one_side_of_one_clip_gets_the_whole_augmentation_and_of_two_clips_a_share():
    views = PairViews(config(pairs={"full": 0.3}), np.arange(1))
    sides = views.chosen(list(range(1000)), [True] * 1000)
    assert (sides.sum(1) == 1).all()
    assert 0.4 < sides[:, 0].double().mean() < 0.6
    sides = views.chosen(list(range(1000)), [False] * 1000).double()
    assert 0.25 < sides.mean() < 0.35
    assert abs(np.corrcoef(sides.T)[0, 1]) < 0.1


def test_what_is_not_augmented_whole_keeps_its_colours():
    gray = {"crop": "center", "color": 0.0, "gray": 1.0, "blur": 0.0, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    views = PairViews(config(augment=gray), np.arange(6))
    given = batch(6, one_clip=True)
    out = views(given, torch.device("cpu"))["video"]
    colourless = (out.amax(3) - out.amin(3)).flatten(2).amax(2) < 1e-5
    assert torch.equal(colourless, views.chosen(given["seed"].tolist(), [True] * 6))


def test_colours_and_blur_are_those_of_the_clip_and_not_of_the_frame():
    """32 times one picture stays 32 times one picture; the two clips of a pair differ."""
    settings = config(data={"clip": {"frames": 32, "stride_frames": 1}}, pairs={"full": 1.0})
    assert (settings.augment.color, settings.augment.gray, settings.augment.blur) == (0.4, 0.2, 0.5)
    given = batch(4, frames=32)
    given["video"] = given["video"][:, :1].expand(-1, 64, -1, -1, -1).contiguous()
    out = PairViews(settings, np.arange(4))(given, torch.device("cpu"))["video"]
    assert torch.equal(out, out[:, :, :1].expand_as(out))
    assert all(not torch.equal(pair[0], pair[1]) for pair in out)


def test_what_counts_as_one_source():
    names = ["a/v_Biking_g01_c01.avi", "a/v_Biking_g01_c02.avi", "a/v_Biking_g02_c01.avi", "a/v_Biking_g01_c01.avi", "a/clip.mp4"]
    rows = Rows.of([Row(name) for name in names])
    assert source_numbers(rows, False).tolist() == [0, 1, 2, 0, 3]
    assert source_numbers(rows, True).tolist() == [0, 0, 1, 0, 2]
