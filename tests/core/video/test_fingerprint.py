"""What tells versions of a file apart."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tasks.core.video.fingerprint import fingerprint
from tasks.core.video.reader import VideoError


def test_place_and_time_do_not_matter_and_content_does(tmp_path):
    first, second = tmp_path / "a.mp4", tmp_path / "elsewhere" / "b.mkv"
    second.parent.mkdir()
    first.write_bytes(os.urandom(5000))
    shutil.copyfile(first, second)
    os.utime(second, (1, 1))
    mark = fingerprint(first)
    assert len(mark) == 16
    assert fingerprint(second) == mark
    data = bytearray(first.read_bytes())
    data[2500] ^= 1
    second.write_bytes(data)
    assert fingerprint(second) != mark
    second.write_bytes(first.read_bytes()[:-1])
    assert fingerprint(second) != mark


@pytest.mark.parametrize("place", [0, (3 << 20) - 1, (3 << 20) - 60_000, (3 << 20) * 7 // 15])
def test_large_files_are_looked_at_from_end_to_end(tmp_path, place):
    file = tmp_path / "a.mp4"
    file.write_bytes(bytes(3 << 20))
    mark = fingerprint(file)
    with open(file, "r+b") as open_file:
        open_file.seek(place)
        open_file.write(b"x")
    assert fingerprint(file) != mark
    file.write_bytes(bytes((3 << 20) + 1))
    assert fingerprint(file) != mark


def test_folders_of_pictures(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(40):
            Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(tmp_path / folder / f"{number}.png")
    mark = fingerprint(tmp_path / "a")
    assert fingerprint(tmp_path / "b") == mark
    (tmp_path / "b" / "notes.txt").write_text("no picture")
    assert fingerprint(tmp_path / "b") == mark
    os.rename(tmp_path / "b" / "7.png", tmp_path / "b" / "70.png")
    assert fingerprint(tmp_path / "b") != mark
    (tmp_path / "none").mkdir()
    assert len(fingerprint(tmp_path / "none")) == 16


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        fingerprint(tmp_path / "missing.mp4")
