import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from painted import paint, read_number, write_video
from PIL import Image

from tasks.core.errors import InputError, UsageError
from tasks.core.video import cache, index
from tasks.core.video.open import open_video
from tasks.core.video.probe import count_wrong, probe_numbers, sequential_pictures
from tasks.core.video.reader import VideoError, frames_shown_at, scaled_size


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("one") / "a.mp4", n=60, gop_size=12)


def test_frames_and_times(video):
    with open_video(video) as reader:
        assert (reader.backend, reader.n_frames, len(reader), reader.height, reader.width) == ("pyav", 60, 60, 64, 96)
        assert reader.fps == pytest.approx(30)
        assert reader.get([]).shape == (0, 64, 96, 3)
        assert reader.get([1, 1], short_side=32).shape == (2, 32, 48, 3)
        assert [(n, read_number(picture)) for n, _, picture in reader.frames(50, 53)] == [(50, 50), (51, 51), (52, 52)]
        assert [round(seconds, 3) for _, seconds, _ in reader.frames(58)] == [1.933, 1.967]
        assert [read_number(picture) for picture in reader.get_at([-1, 0.999 / 30, 1 / 30, 1.5, 99])] == [0, 0, 1, 45, 59]
        for wrong in ([60], [-1]):
            with pytest.raises(IndexError):
                reader.get(wrong)


def test_pictures_that_nothing_refers_to_are_left_out_and_the_others_stay_exact(tmp_path, monkeypatch):
    from tasks.core.video import cursor

    path = write_video(tmp_path / "b.mp4", n=80, gop_size=40)  # x264's usual three B pictures between others
    made = []
    whole = cursor.Cursor._seek
    monkeypatch.setattr(cursor.Cursor, "_seek", lambda *a: (made.append(f) or f for f in whole(*a)))
    with open_video(path) as reader:
        wanted = [41, 49, 57, 65]
        assert [read_number(picture) for picture in reader.get(wanted)] == wanted
        numbers = {number for number, _ in made}
        assert set(wanted) <= numbers
        assert len(set(range(41, 66)) - numbers) >= 8
        stream = reader.frames(50)  # a stream and single frames by turns: each finds what the other has passed over
        for number in range(50, 60):
            assert read_number(next(stream)[2]) == number
            assert [read_number(picture) for picture in reader.get([number + 3, number + 9])] == [number + 3, number + 9]


@pytest.mark.parametrize("stride", [1, 3])
def test_blocks_one_after_the_other_are_decoded_once(tmp_path, monkeypatch, stride):
    from tasks.core.video import cursor

    path = write_video(tmp_path / "b.mp4", n=120, gop_size=60)
    starts = []
    whole = cursor.Cursor._seek
    monkeypatch.setattr(cursor.Cursor, "_seek", lambda *a: (starts.append(a), whole(*a))[1])
    with open_video(path) as reader:
        starts.clear()
        wanted = range(0, 120, stride)
        found = [read_number(picture) for first in range(0, len(wanted), 4) for picture in reader.get(wanted[first : first + 4])]
    assert found == list(wanted)
    assert len(starts) <= 2  # once per group of pictures


def test_helpers():
    assert scaled_size(240, 320, 120) == (120, 160)
    assert scaled_size(320, 240, 120) == (160, 120)
    assert scaled_size(240, 320, None) == (240, 320)
    assert frames_shown_at(np.array([0.5, 1.0]), [0.0, 0.5, 0.99, 2.0]).tolist() == [0, 0, 0, 1]


def test_errors_survive_pickling_and_name_the_file(tmp_path):
    with pytest.raises(VideoError, match="no such file") as caught:
        open_video(tmp_path / "none.mp4")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.reason, again.exit_code) == (str(tmp_path / "none.mp4"), "no such file", 3)
    with pytest.raises(UsageError, match="unknown decoder"):
        open_video(tmp_path, "cv2")


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        open_video(tmp_path / "pipe.mp4")


def test_a_large_file_is_indexed_without_decoding_it(video, monkeypatch):
    whole = index.build_index(video)
    monkeypatch.setattr(index, "FULL_DECODE_PX", 0)
    quick = index.build_index(video)
    assert (whole.verified, quick.verified) == (True, False)
    assert quick.seekable
    assert np.array_equal(whole.ticks, quick.ticks)
    assert np.array_equal(whole.keys, quick.keys)
    assert index.build_index(video, full=True).verified


class TestCache:
    @pytest.fixture(autouse=True)
    def fresh(self, tmp_path, monkeypatch):
        monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(cache, "_memory", type(cache._memory)())
        self.built = []
        monkeypatch.setattr(cache, "first_look", lambda path, full=False: self.built.append(path) or index.build_index(path, full))

    def forget(self):
        cache._memory.clear()

    def test_a_file_is_indexed_once(self, video):
        first = cache.index_of(video)
        self.forget()
        second = cache.index_of(video)
        assert len(self.built) == 1
        assert np.array_equal(first.ticks, second.ticks)
        assert first.fps == second.fps

    def test_a_changed_file_is_indexed_again(self, tmp_path):
        path = write_video(tmp_path / "b.mp4", n=10)
        assert len(cache.index_of(path).ticks) == 10
        write_video(path, n=14)
        assert len(cache.index_of(path).ticks) == 14

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"nonsense"])
    def test_a_broken_cache_is_ignored(self, video, content):
        cache.index_of(video)
        self.forget()
        (file,) = Path(os.environ["VID_CACHE"]).rglob("*.npz")
        file.write_bytes(content)
        assert len(cache.index_of(video).ticks) == 60
        assert len(self.built) == 2

    def test_a_cache_that_cannot_be_written_is_done_without(self, video, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("VID_CACHE", str(tmp_path / "file"))
        assert len(cache.index_of(video).ticks) == 60


class TestFrames:
    def test_natural_order_and_scaling(self, tmp_path):
        for number in (0, 2, 10, 9):
            Image.fromarray(paint(number)).save(tmp_path / f"f{number}.bmp")
        (tmp_path / "notes.txt").touch()
        with open_video(tmp_path, fps=10) as reader:
            assert (reader.backend, reader.n_frames) == ("frames", 4)
            assert reader.pts.tolist() == [0, 0.1, 0.2, 0.3]
            assert [read_number(picture) for picture in reader.get([0, 1, 2, 3, 1])] == [0, 2, 9, 10, 2]
            assert read_number(reader.get([2], short_side=32)[0]) == 9
            assert [read_number(picture) for _, _, picture in reader.frames(1, 3)] == [2, 9]

    def test_grey_pictures_become_rgb(self, tmp_path):
        Image.fromarray(paint(3)).convert("L").save(tmp_path / "1.tif")
        assert open_video(tmp_path).get([0]).shape == (1, 64, 96, 3)

    def test_what_cannot_be_read(self, tmp_path):
        with pytest.raises(VideoError, match="without pictures"):
            open_video(tmp_path)
        Image.fromarray(paint(0)).save(tmp_path / "0.png")
        (tmp_path / "1.png").write_bytes(b"broken")
        with open_video(tmp_path) as reader, pytest.raises(VideoError, match=r"picture 1\.png"):
            reader.get([1])

    def test_no_memory_is_taken_for_a_header_that_claims_a_huge_picture(self, tmp_path):
        Image.fromarray(paint(0)).save(tmp_path / "0.bmp")
        content = bytearray((tmp_path / "0.bmp").read_bytes())
        content[18:26] = (12_000).to_bytes(4, "little") + (12_000).to_bytes(4, "little")
        (tmp_path / "0.bmp").write_bytes(content)
        with pytest.raises(VideoError, match="claims 12000x12000 px"):
            open_video(tmp_path)

    def test_a_tiff_whose_data_begin_at_a_fraction(self, tmp_path):
        Image.fromarray(paint(0)).save(tmp_path / "0.tif")
        content = bytearray((tmp_path / "0.tif").read_bytes())
        at = content.find(bytes((273 % 256, 273 // 256, 4, 0)))  # the tag of where the picture's data lie, a 32-bit number
        content[at + 2] = 11  # a 32-bit float
        (tmp_path / "0.tif").write_bytes(content)
        with pytest.raises(VideoError, match=r"picture 0\.tif cannot be read"):
            open_video(tmp_path)


class TestDecord:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("decord")

    def test_it_agrees_with_pyav(self, video):
        numbers = [5, 59, 0, 13, 13]
        with open_video(video, "decord") as one, open_video(video, "pyav") as other:
            assert (one.backend, one.n_frames) == ("decord", 60)
            assert np.array_equal(one.pts, other.pts)
            assert np.abs(one.get(numbers).astype(int) - other.get(numbers)).mean() < 2
            assert [read_number(picture) for picture in one.get(numbers, short_side=32)] == numbers
            assert [read_number(picture) for _, _, picture in one.frames(30)] == list(range(30, 60))

    def test_a_probe_finds_its_wrong_frames(self, tmp_path):
        path = write_video(tmp_path / "b.avi", codec="mpeg4", max_b_frames=2, gop_size=24, bit_rate=800_000)
        found = cache.index_of(path)
        numbers = probe_numbers(found)
        truth = sequential_pictures(str(path), found, numbers)
        assert len(numbers) == len(set(numbers)) == 16
        assert {0, len(found.ticks) - 1} <= set(numbers)
        assert count_wrong(open_video(path, "pyav"), truth, numbers) == 0
        assert count_wrong(open_video(path, "decord"), truth, numbers) > 0

    def test_what_it_must_not_touch(self, tmp_path):
        content = write_video(tmp_path / "c.mkv", n=60).read_bytes()
        (tmp_path / "c.mkv").write_bytes(content[: len(content) // 2])
        with pytest.raises(VideoError, match="not readable with decord"):
            open_video(tmp_path / "c.mkv", "decord")
        assert open_video(tmp_path / "c.mkv").backend == "pyav"


def test_a_missing_package_is_named(video, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(InputError, match="needs the package 'decord'"):
        open_video(video, "decord")


@pytest.mark.real
def test_real_clips_are_exact(real_data):
    for path in sorted((real_data / "clips").iterdir()):
        found = cache.index_of(path)
        numbers = probe_numbers(found, 8)
        assert count_wrong(open_video(path, "pyav"), sequential_pictures(str(path), found, numbers), numbers) == 0
