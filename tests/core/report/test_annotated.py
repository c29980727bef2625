"""Annotated videos: their clock, size and pictures."""

import av
import numpy as np
import pytest

from tasks.core.report.annotated import clock_ticks, evened, picture_size, write_images


def test_ticks_increase_even_where_times_do_not_differ():
    ticks = clock_ticks(np.array([1.0, 1.0 + 1e-6, 1.0 + 2e-6, 2.0]), 2.5)
    assert [at for at, _ in ticks] == [0, 1, 2, 60000]
    assert [length for _, length in ticks] == [1, 1, 59998, 30000]


@pytest.mark.parametrize(
    ("size", "made"),
    [((65, 99), (240, 240, 366)), ((1080, 1920), (720, 720, 1280)), ((301, 501), (301, 302, 502)), ((99, 65), (240, 366, 240))],
)
def test_sizes_are_even_and_within_what_can_be_read(size, made):
    assert picture_size(*size) == made


def test_odd_sides_repeat_their_last_row_and_column():
    picture = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    made = evened(picture, 4, 6)
    assert (made[:3, :5] == picture).all()
    assert (made[3, :5] == picture[2]).all()
    assert (made[:3, 5] == picture[:, 4]).all()
    made[:] = 0
    assert picture.any()  # a copy


def test_times_and_pictures_are_kept(tmp_path):
    pts = 0.4 + np.cumsum(np.random.default_rng(0).uniform(1 / 90, 1 / 5, 9))
    write_images(tmp_path / "a.mp4", (np.full((32, 48, 3), 20 * i, np.uint8) for i in range(9)), pts, pts[-1] + 0.1, 20.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [(float(frame.pts * frame.time_base), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert np.abs(np.array([t for t, _ in frames]) - (pts - pts[0])).max() < 2e-5
    assert np.abs(np.array([image.mean() for _, image in frames]) - 20 * np.arange(9)).max() < 4
    with pytest.raises(ValueError):
        write_images(tmp_path / "b.mp4", iter([np.zeros((32, 48, 3), np.uint8)]), pts, pts[-1] + 0.1, 20.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
