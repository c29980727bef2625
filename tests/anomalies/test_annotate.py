import av
import numpy as np
import pytest
from found_anomalies import detection, scores_of

from tasks.anomalies import annotate
from tasks.anomalies.annotate import write_annotated
from tasks.anomalies.heat import overlay
from tasks.core.video.reader import VideoReader


class Made(VideoReader):
    """Grey frames at given times; counts how many were asked for one after the other."""

    path, backend = "made", "made"

    def __init__(self, pts, height=64, width=96):
        self.pts, self.n_frames = np.asarray(pts, np.float64), len(pts)
        self.height, self.width, self.fps = height, width, len(pts) / max(1e-6, pts[-1] - pts[0])
        self.sizes = []

    def frames(self, start=0, stop=None, short_side=None):
        for number in range(start, self.n_frames if stop is None else stop):
            scale = (short_side or min(self.height, self.width)) / min(self.height, self.width)
            shape = (round(self.height * scale), round(self.width * scale), 3)
            self.sizes.append(shape)
            yield number, float(self.pts[number]), np.full(shape, 40 + number % 100, np.uint8)

    def get(self, indices, short_side=None):
        raise AssertionError("frames are streamed")

    def close(self):
        return None


def decoded(path):
    """(times, frames, stream) of a video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        facts = (stream.codec_context.name, stream.codec_context.pix_fmt, float(stream.duration * stream.time_base))
        frames = [(float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    return np.array([t for t, _ in frames]), [image for _, image in frames], facts


def near(pixel, colour, by=40):
    return np.abs(pixel.astype(int) - colour).max() <= by


def test_uneven_times_are_kept_from_the_first_frame_on(tmp_path):
    pts = 0.4 + np.cumsum(np.random.default_rng(0).uniform(1 / 90, 1 / 5, 60))
    found = detection(np.linspace(0, 1, 60), pts=pts)
    write_annotated(tmp_path / "a.mp4", found, Made(pts))
    times, frames, (codec, pixels, length) = decoded(tmp_path / "a.mp4")
    assert np.abs(times - (pts - pts[0])).max() < 2e-5
    assert length == pytest.approx(found.duration_s, abs=2e-5)
    assert (codec, pixels) == ("h264", "yuv420p")
    assert all(side % 2 == 0 for side in frames[0].shape[:2])


@pytest.mark.parametrize(("height", "width", "picture"), [(65, 99, (240, 366)), (1080, 1920, (720, 1280)), (301, 501, (302, 502))])
def test_sizes_are_even_and_within_what_can_be_read(tmp_path, height, width, picture):
    write_annotated(tmp_path / "a.mp4", detection([0.1, 0.2]), Made([0.0, 0.1], height, width))
    (_, frames, _) = decoded(tmp_path / "a.mp4")
    assert frames[0].shape[1] == picture[1]
    assert frames[0].shape[0] > picture[0]


def test_heat_border_curve_and_cursor(tmp_path):
    reader = Made(np.arange(50) / 10, 240, 320)
    write_annotated(tmp_path / "a.mp4", detection(), reader)
    _, frames, _ = decoded(tmp_path / "a.mp4")
    calm, flagged = frames[10], frames[25]
    assert near(calm[2, 100], (50, 50, 50), 8)
    assert near(flagged[1, 100], annotate.FLAGGED)  # border
    assert near(flagged[60, 60], (65, 65, 65), 8)  # no heat here
    hot = flagged[200, 300].astype(int)
    assert hot[0] - hot[2] > 60  # here there is
    for number in (0, 10, 25, 49):
        panel = frames[number][240:].astype(int)
        bright = np.flatnonzero(panel[-3:].min((0, 2)) > 180)  # below the curve only the cursor is white
        assert bright.mean() == pytest.approx(number / 50 * 319, abs=2)


def test_only_the_part_that_was_looked_at(tmp_path):
    reader = Made(np.arange(100) / 10)
    found = detection(pts=2 + np.arange(50) / 10)
    write_annotated(tmp_path / "a.mp4", found, reader)
    times, _, _ = decoded(tmp_path / "a.mp4")
    assert len(times) == 50
    assert times[0] == 0


def test_frames_without_a_score_are_shown_without(tmp_path):
    every = scores_of(np.ones(10))
    some = type(every)(every.t[4:8], every.frame[4:8], every.score[4:8], {}, every.heat[4:8])
    write_annotated(tmp_path / "a.mp4", detection(scores=some, start_s=0.0, duration_s=1.0), Made(np.arange(10) / 10))
    times, _, _ = decoded(tmp_path / "a.mp4")
    assert len(times) == 10
    write_annotated(tmp_path / "b.mp4", detection(scores=scores_of([]), duration_s=0.2), Made([0.0, 0.1]))
    assert len(decoded(tmp_path / "b.mp4")[0]) == 2


def test_without_libx264_mpeg4_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    pts = np.cumsum([0.0, 0.04, 0.3, 0.017, 0.5])
    write_annotated(tmp_path / "a.mp4", detection(np.ones(5), pts=pts), Made(pts))
    times, frames, (codec, pixels, _) = decoded(tmp_path / "a.mp4")
    assert (codec, pixels) == ("mpeg4", "yuv420p")
    assert np.abs(times - pts).max() < 2e-5
    assert near(frames[0][100, 100], (frames[0][100, 100].mean(),) * 3, 60)


def test_a_video_that_breaks_leaves_nothing(tmp_path):
    class Broken(Made):
        def frames(self, start=0, stop=None, short_side=None):
            yield from list(super().frames(start, stop, short_side))[:2]
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_annotated(tmp_path / "a.mp4", detection(np.ones(5)), Broken(np.arange(5) / 10))
    assert not list(tmp_path.iterdir())


def test_overlay_leaves_what_is_normal_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    heat = np.zeros((4, 6), np.uint8)
    assert np.array_equal(overlay(picture, heat), picture)
    heat[2, 4] = 255
    changed = np.abs(overlay(picture, heat).astype(int) - picture).sum(-1)
    assert changed[25, 45] > 0
    assert not changed[:10].any()
    assert not changed[:, :25].any()
