"""What is said of files that are no videos."""

import io
import wave
import zipfile

import pytest
from PIL import Image

from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError


def _picture(kind):
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind)
    return out.getvalue()


def _sound():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 800)
    return out.getvalue()


def _archive():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a", "b")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_picture("JPEG"), "not a readable video: it is a picture (JPEG)"),
        (_picture("PNG"), "not a readable video: it is a picture (PNG)"),
        (_picture("TIFF"), "not a readable video: it is a picture (TIFF)"),
        (_picture("WEBP"), "not a readable video: it is a picture (WebP)"),
        (b"ID3\x04\0\0\0\0\0\0" + b"\0" * 600, "not a readable video: it is sound (MP3)"),
        (b"\xff\xfb\x90\x64" + b"\0" * 600, "not a readable video: it is sound (MP3)"),
        (_sound(), "not a readable video: it is sound (WAV)"),
        (_archive(), "not a readable video: it is an archive"),
        (b"<!DOCTYPE html><html>404</html>", "not a readable video: it is a web page"),
        ("Größe und ähnliches\n".encode() * 100, "not a readable video: it is text"),
        (b"\x01\x02\0\xff" * 300, "not a readable video ("),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, told):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(VideoError) as error:
        open_video(tmp_path / "x.mp4")
    assert error.value.reason.startswith(told)


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(VideoError, match="File name too long"):
        open_video(tmp_path / ("a" * 300 + ".mp4"))
