import numpy as np
import pytest

from tasks.core.clips.clips import ClipSampler, frame_range, nearest
from tasks.core.clips.config import ClipConfig

PTS = np.arange(100) / 25
VARIABLE = np.cumsum(np.r_[0.2, np.full(40, 0.04), np.full(40, 0.2)])


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("config", [{}, {"stride_frames": 4}, {"stride_s": 0.1}, {"sampling": "segments"}, {"sampling": "span"}])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 61, 100])
def test_numbers_stay_inside_and_never_go_back(config, n):
    sampler = ClipSampler.from_config(ClipConfig(frames=16, **config))
    for pts in (PTS[:n], VARIABLE[: min(n, len(VARIABLE))]):
        clips = [sampler.train(len(pts), pts, rng(seed)) for seed in range(20)]
        clips += [*sampler.views(len(pts), pts, 1), *sampler.views(len(pts), pts, 5), *sampler.windows(len(pts), pts)]
        for clip in clips:
            assert clip.shape == (16,)
            assert clip.dtype == np.int64
            assert 0 <= clip.min() <= clip.max() < len(pts)
            assert (np.diff(clip) >= 0).all()


def test_half_overlapping_windows_by_hand():
    assert [c.tolist() for c in ClipSampler(4, stride_frames=2).half_overlapping(16, PTS[:16])] == [
        [0, 2, 4, 6],
        [4, 6, 8, 10],
        [8, 10, 12, 14],
        [9, 11, 13, 15],  # ends with the video
    ]
    assert [c.tolist() for c in ClipSampler(4, stride_s=0.04).half_overlapping(7, PTS[:7])] == [[0, 1, 2, 3], [2, 3, 4, 5], [3, 4, 5, 6]]
    assert [c.tolist() for c in ClipSampler(4).half_overlapping(3, PTS[:3])] == [[0, 1, 2, 2]]  # shorter than a clip
    part = [c.tolist() for c in ClipSampler(2).half_overlapping(100, PTS, start=0.4, end=0.52)]
    assert part == [[10, 11], [11, 12]]


def test_dense_windows_reach_both_ends():
    sampler = ClipSampler(4, stride_frames=3)
    generator = rng()
    starts = {int(sampler.train(14, PTS[:14], generator)[0]) for _ in range(300)}
    assert starts == {0, 1, 2, 3, 4}  # 14 frames, a span of 10
    assert sampler.train(14, PTS[:14], rng(1)).tolist() == sampler.train(14, PTS[:14], rng(1)).tolist()


def test_short_videos_repeat_their_last_frame():
    assert ClipSampler(4, stride_frames=2).train(5, PTS[:5], rng()).tolist() == [0, 2, 4, 4]
    assert ClipSampler(4, sampling="segments").views(2, PTS[:2]).tolist() == [[0, 0, 1, 1]]


def test_a_stride_in_seconds_follows_the_clock():
    clip = ClipSampler(5, stride_s=0.4).train(len(VARIABLE), VARIABLE, rng(3))
    assert np.abs(np.diff(VARIABLE[clip]) - 0.4).max() <= 0.2 + 1e-9
    fast, slow = np.arange(200) / 50, np.arange(100) / 25
    at_50, at_25 = (ClipSampler(8, stride_s=0.2).views(len(pts), pts, 3) for pts in (fast, slow))
    assert np.abs(fast[at_50] - slow[at_25]).max() <= 0.04


def test_views_spread_from_the_first_to_the_last_window():
    sampler = ClipSampler(16, stride_frames=4)
    starts = sampler.views(100, PTS, 4)[:, 0].tolist()
    assert starts == [0, 13, 26, 39]  # the last possible start: 100 - 61
    assert sampler.views(100, PTS, 1)[0, 0] == 20
    assert (sampler.views(30, PTS[:30], 3)[:, 0] == 0).all()


def test_segments():
    sampler = ClipSampler(4, sampling="segments")
    assert sampler.views(40, PTS[:40], 1).tolist() == [[5, 15, 25, 35]]
    assert sampler.views(40, PTS[:40], 2).tolist() == [[2, 12, 22, 32], [7, 17, 27, 37]]
    drawn = np.stack([sampler.train(40, PTS[:40], rng(seed)) for seed in range(200)])
    assert (drawn // 10 == np.arange(4)).all()
    assert len(np.unique(drawn[:, 2])) == 10


def test_windows_cover_everything():
    sampler = ClipSampler(4, stride_frames=2)
    clips = list(sampler.windows(20, PTS[:20], hop_frames=5))
    assert [int(clip[0]) for clip in clips] == [0, 5, 10, 13]
    assert clips[-1][-1] == 19
    assert len(list(sampler.windows(3, PTS[:3], hop_frames=1))) == 1
    timed = list(ClipSampler(3, stride_s=0.2).windows(50, PTS[:50], hop_s=0.5))
    assert [float(PTS[clip[0]]) for clip in timed] == pytest.approx([0, 0.5, 1.0, 1.5, 1.56], abs=0.021)
    assert timed[-1][-1] == 49


@pytest.mark.parametrize("config", [{"stride_frames": 2}, {"stride_s": 0.08}, {"sampling": "segments"}])
def test_only_the_named_part_counts(config):
    sampler = ClipSampler.from_config(ClipConfig(frames=4, **config))
    for seed in range(20):
        clip = sampler.train(100, PTS, rng(seed), 1.0, 2.0)
        assert 25 <= clip.min() <= clip.max() < 50
    views = sampler.views(100, PTS, 3, 1.0, 2.0)
    assert 25 <= views.min() <= views.max() < 50
    for window in sampler.windows(100, PTS, start=1.0, end=2.0):
        assert 25 <= window.min() <= window.max() < 50


def test_a_part_between_two_frames_is_the_frame_on_screen():
    assert frame_range(PTS, 1.01, 1.02) == (25, 26)
    assert frame_range(PTS, None, None) == (0, 100)
    assert frame_range(PTS, 99.0, 100.0) == (99, 100)


def test_nearest():
    assert nearest(np.array([0.0, 1.0, 3.0]), np.array([-1, 0.4, 0.6, 1.9, 2.1, 9])).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest(np.array([5.0]), np.array([0.0, 9.0])).tolist() == [0, 0]


def test_a_short_video_is_stretched_to_a_clip():
    pts = np.arange(16) / 15
    plain, stretched = (ClipSampler.from_config(ClipConfig(frames=21, stride_s=0.1, stretch=stretch)) for stretch in (False, True))
    assert plain.views(16, pts, 1)[0].tolist()[10:] == [15] * 11
    for clip in (*stretched.views(16, pts, 3), stretched.train(16, pts, np.random.default_rng(0))):
        assert clip.tolist() == nearest(pts, np.linspace(0, 1, 21)).tolist()
    part = stretched.views(16, pts, 1, 0.2, 0.6)[0]
    assert (part[0], part[-1]) == (3, 8)
    assert [clip.tolist() for clip in stretched.windows(16, pts)] == [stretched.views(16, pts)[0].tolist()]
    long = np.arange(100) / 15
    assert [clip.tolist() for clip in stretched.windows(100, long)] == [clip.tolist() for clip in plain.windows(100, long)]
    assert np.array_equal(stretched.views(100, long, 3), plain.views(100, long, 3))
    assert stretched.views(1, pts[:1])[0].tolist() == [0] * 21
    with pytest.raises(ValueError, match="set stretch to false"):
        ClipConfig(stride_frames=2, stretch=True)


def test_a_jittered_stride_plays_clips_slower_and_faster_in_training_only():
    pts = np.arange(2000) / 100
    config = ClipConfig(frames=11, stride_s=0.2, stride_jitter=1.0)
    sampler, rng = ClipSampler.from_config(config), np.random.default_rng(0)
    spans = [np.ptp(pts[sampler.train(2000, pts, rng)]) for _ in range(400)]
    assert 0.99 <= min(spans) < 1.05
    assert 3.8 < max(spans) <= 4.01
    assert np.median(spans) == pytest.approx(2.0, abs=0.15)  # as often slower as faster
    assert {round(float(np.ptp(pts[view])), 6) for view in sampler.views(2000, pts, 5)} == {2.0}
    with pytest.raises(ValueError, match="give stride_s, or set stride_jitter to 0"):
        ClipConfig(stride_frames=2, stride_jitter=0.5)
    with pytest.raises(ValueError, match="stride_jitter needs dense clips"):
        ClipConfig(sampling="segments", stride_s=0.2, stride_jitter=0.5)


def test_windows_on_a_grid_begin_exactly_a_hop_apart_and_repeat_the_last_frame():
    """25 frames a second; the last window begins before 0.8 s, where the last of 20 frames ends."""
    grid, windows = ClipSampler(4, stride_frames=2).on_grid(PTS[:20], 0.2)
    windows = np.stack(list(windows))
    assert (grid.stride_s, grid.span_s, grid.offset_s) == (0.2, pytest.approx(0.32), 0.0)
    assert windows.tolist() == [[0, 2, 4, 6], [5, 7, 9, 11], [10, 12, 14, 16], [15, 17, 19, 19]]
    assert windows.dtype == np.int64
    grid, windows = ClipSampler(4, stride_frames=2).on_grid(PTS[:20])  # each where the one before ends
    assert [window.tolist() for window in windows] == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 19, 19]]
    _, windows = ClipSampler(2, stride_frames=2).on_grid(PTS[:20], 0.1)  # 2.5 frames: of two equally near always the earlier
    assert [window.tolist() for window in windows][:4] == [[0, 2], [2, 4], [5, 7], [7, 9]]


@pytest.mark.parametrize("sampler", [ClipSampler(3, stride_s=0.3), ClipSampler(3, stride_frames=2)])
@pytest.mark.parametrize("pts", [PTS, PTS + 1.4, VARIABLE, VARIABLE[:1], PTS[:2]], ids=["even", "late", "variable", "one", "two"])
@pytest.mark.parametrize("hop", [0.25, 0.7, None])
def test_the_grid_of_windows_is_true(sampler, pts, hop):
    """Every frame is the nearest to its place in the grid; every moment of the video lies in a window where the hop is not longer."""
    grid, windows = sampler.on_grid(pts, hop)
    windows = np.stack(list(windows))
    times = grid.times(len(windows))
    assert grid.offset_s == pts[0]
    last = pts[-1] + (np.median(np.diff(pts)) if len(pts) > 1 else 0.04)
    assert times[-1, 0] < last <= times[-1, 0] + grid.stride_s + 1e-5
    for window, (begin, end) in zip(windows, times, strict=True):
        for number, place in zip(window, np.linspace(begin, end, 3, endpoint=False), strict=True):
            assert abs(pts[number] - place) <= np.abs(pts - place).min() + 1e-5


def test_windows_on_a_grid_stay_in_the_named_part():
    for config in ({"stride_frames": 2}, {"stride_s": 0.08}):
        grid, windows = ClipSampler.from_config(ClipConfig(frames=4, **config)).on_grid(PTS, 0.3, 1.01, 2.0)
        windows = np.stack(list(windows))
        assert grid.offset_s == pytest.approx(1.04)
        assert len(windows) == 4  # from 1.04, 1.34, 1.64, 1.94 s
        assert (windows.min(), windows.max()) == (26, 49)
    grid, windows = ClipSampler(4).on_grid(PTS, 0.3, 1.01, 1.02)
    assert [window.tolist() for window in windows] == [[25] * 4]
    stretched = ClipSampler(5, stride_s=0.5, stretch=True)
    grid, windows = stretched.on_grid(PTS[:21], 0.5)  # 0.8 s of video, clips of 2.5 s
    assert [window.tolist() for window in windows] == [[0, 5, 10, 15, 20], [12, 17, 20, 20, 20]]
    assert grid.span_s == 2.5


def test_span_begins_in_the_first_fifth_and_ends_in_the_last():
    sampler = ClipSampler(8, "span")
    for seed in range(50):
        seconds = PTS[sampler.train(100, PTS, rng(seed))]
        assert seconds[0] <= 0.2 * PTS[-1] + 0.02
        assert seconds[-1] >= 0.8 * PTS[-1] - 0.02
        assert np.ptp(np.diff(seconds)) <= 0.08 + 1e-9  # evenly, to the nearest frame


def test_span_goes_by_time_where_frame_rates_vary():
    seconds = VARIABLE[ClipSampler(10, "span").views(81, VARIABLE)[0]]
    assert seconds == pytest.approx(np.linspace(*(VARIABLE[0] + np.ptp(VARIABLE) * np.array([0.1, 0.9])), 10), abs=0.1)


def test_ten_spans_of_a_test_differ_and_are_those_of_every_video():
    sampler = ClipSampler(8, "span")
    found = sampler.views(100, PTS, 10)
    assert len({tuple(clip) for clip in found}) == 10
    longer = np.arange(1000) / 250
    assert np.abs(sampler.views(1000, longer, 10) / 999 - found / 99).max() < 0.01
    assert np.array_equal(sampler.views(100, PTS, 10), found)


def test_span_stays_in_the_named_part_and_repeats_frames_of_a_short_one():
    clip = ClipSampler(16, "span").train(100, PTS, rng(), start=1.0, end=1.2)
    assert set(clip) <= set(range(25, 30))
    assert len(clip) == 16
