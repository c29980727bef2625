"""Flow in 8 bits, and which frames the flow of a frame leads between."""

import cv2
import numpy as np
import pytest
import torch
from sliding import write_sliding

from tasks.core.flow import levels
from tasks.core.flow.flow import to_grey
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.levels import REST, compute_pictures, flow_of_frames, stream_pictures, to_levels, to_px
from tasks.core.flow.tvl1 import tvl1
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

SHIFTS = [1, 3, -2, 4, -3, 2]
DIS = {"method": "dis", "short_side": None}


@pytest.fixture(scope="module")
def sliding(tmp_path_factory):
    return write_sliding(tmp_path_factory.mktemp("flow") / "sliding", SHIFTS)


def medians(pictures, settings):
    """Median u and v of each picture, px."""
    flow = to_px(torch.from_numpy(pictures[..., :2]), settings.bound_px)
    return flow.flatten(1, 2).median(1).values.numpy()


def test_levels_are_those_of_the_papers():
    """v = round((f + 20) 255 / 40), clipped: rest is 127.5, rounded to 128."""
    flow = torch.tensor([0.0, -25.0, 25.0, -20.0, 20.0, 7.3], dtype=torch.float64)
    assert to_levels(flow, 20.0).tolist() == [REST, 0, 255, 0, 255, round(27.3 * 255 / 40)]


@pytest.mark.parametrize("bound", [5.0, 20.0])
def test_levels_go_back_to_px_within_half_a_level(bound):
    flow = torch.linspace(-bound, bound, 1001, dtype=torch.float64)
    assert (to_px(to_levels(flow, bound), bound) - flow).abs().max() <= bound / 255 + 1e-5
    every = torch.arange(256, dtype=torch.uint8)
    torch.testing.assert_close(to_px(255 - every, bound), -to_px(every, bound), rtol=0, atol=1e-5)
    assert torch.equal(to_levels(to_px(every, bound), bound), every)


@pytest.mark.parametrize(("gap", "expected"), [(1, SHIFTS), (2, [4, 1, 2, 1, -1]), (3, [2, 5, -1, 3])])
def test_the_flow_of_a_frame_leads_to_the_frame_after_the_gap(sliding, gap, expected):
    """And the last frames, which have none, repeat the last one there is."""
    settings = FlowSettings(**DIS, gap_frames=gap)
    with open_video(sliding) as reader:
        found = compute_pictures(reader, np.arange(reader.n_frames), settings)
    assert found.shape == (7, 64, 96, 3)
    assert (found[..., 2] == REST).all()
    wanted = np.array(expected + expected[-1:] * gap)
    np.testing.assert_allclose(medians(found, settings), np.stack((wanted, 0 * wanted), 1), atol=0.3)
    assert flow_of_frames(np.arange(7), 7, gap).tolist() == [*range(len(expected)), *[len(expected) - 1] * gap]
    for last in found[-gap:]:
        assert np.array_equal(last, found[-gap - 1])


def test_frames_are_given_in_the_order_asked_for(sliding):
    settings = FlowSettings(**DIS)
    with open_video(sliding) as reader:
        every = compute_pictures(reader, np.arange(7), settings)
        assert np.array_equal(compute_pictures(reader, np.array([5, 0, 6, 0]), settings), every[[5, 0, 6, 0]])


@pytest.mark.parametrize("gap", [1, 2, 6, 9])
@pytest.mark.parametrize("window", [2, 3, 64])
def test_a_video_read_in_parts_has_the_same_flow(sliding, monkeypatch, gap, window):
    monkeypatch.setattr(levels, "_WINDOW", window)
    settings = FlowSettings(**DIS, gap_frames=gap)
    with open_video(sliding) as reader:
        parts = list(stream_pictures(reader, settings))
        every = compute_pictures(reader, np.arange(7), settings)
    assert max(map(len, parts)) <= window
    stored = np.concatenate(parts)
    assert len(stored) == max(1, 7 - gap)
    assert np.array_equal(stored[flow_of_frames(np.arange(7), 7, gap)], every)


def test_a_single_frame_is_at_rest(tmp_path):
    folder = write_sliding(tmp_path / "one", [])
    with open_video(folder) as reader:
        (part,) = stream_pictures(reader, FlowSettings(**DIS))
        assert np.array_equal(part, np.full((1, 64, 96, 3), REST, np.uint8))
        assert np.array_equal(part, compute_pictures(reader, np.zeros(1, int), FlowSettings(**DIS)))


def test_tvl1_is_ours_at_the_short_side(sliding):
    settings = FlowSettings(method="tvl1", short_side=24, bound_px=4.0)
    with open_video(sliding) as reader:
        grey = to_grey(torch.from_numpy(reader.get([2, 3], 24)))
        found = compute_pictures(reader, np.array([2]), settings)
    wanted = to_levels(tvl1(grey[:1], grey[1:]), 4.0)[0].permute(1, 2, 0).numpy()
    assert found.shape == (1, 24, 36, 3)
    assert np.array_equal(found[0, ..., :2], wanted)
    assert abs(float(medians(found, settings)[0, 0]) + 2 * 24 / 64) < 0.3


def test_frames_too_small_for_flow_are_named(tmp_path):
    folder = write_sliding(tmp_path / "small", [1], 8, 16)
    with open_video(folder) as reader, pytest.raises(VideoError, match="16x8 px are too small for optical flow"):
        compute_pictures(reader, np.zeros(1, int), FlowSettings(**DIS))


def test_threads_of_opencv_are_as_before(sliding):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with open_video(sliding) as reader:
            compute_pictures(reader, np.array([0]), FlowSettings(**DIS))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
