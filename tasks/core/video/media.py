"""Opening a video file with PyAV: local regular files and real video containers only, errors in words."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import InputError
from tasks.core.video.reader import VideoError

if TYPE_CHECKING:
    import av.container

# No playlists, scripts, text or picture formats: with those a "video" could name other files or addresses, or a text pass for one.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,h264,hevc,m4v,ivf,nut,gif,rm,dv,av1,obu"
# A larger picture (16K is just below) is a damaged or hostile header, for which no memory is taken.
MAX_PICTURE_PX = 2**27
# A decoder that hides damage presents wrong pictures as right ones; `explode` makes it say so.
STRICT = {"err_detect": "crccheck+explode", "max_pixels": str(MAX_PICTURE_PX)}

_KINDS = {
    "a picture (JPEG)": [(0, b"\xff\xd8\xff")],
    "a picture (PNG)": [(0, b"\x89PNG")],
    "a picture (TIFF)": [(0, b"II*\0"), (0, b"MM\0*")],
    "a picture (WebP)": [(8, b"WEBP")],
    "sound (MP3)": [(0, b"ID3"), (0, b"\xff\xfb"), (0, b"\xff\xf3"), (0, b"\xff\xf2")],
    "sound (WAV)": [(8, b"WAVE")],
    "sound (FLAC)": [(0, b"fLaC")],
    "a PDF document": [(0, b"%PDF")],
    "an archive": [(0, b"PK\x03\x04"), (0, b"\x1f\x8b"), (257, b"ustar")],
    "a web page": [(0, b"<!DOCTYPE html"), (0, b"<!doctype html"), (0, b"<html")],
}
"""What a file is -> (place, bytes there), any of which says so."""


def import_av() -> Any:
    """The `av` module; raises InputError naming the package where it is missing."""
    try:
        import av
    except ImportError as error:
        raise InputError("reading videos needs the package 'av' (PyAV)", "pip install av") from error
    return av


def require_file(path: str | Path) -> os.stat_result:
    """The stat of a readable, regular, non-empty file; raises VideoError otherwise (a pipe would block for ever)."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        raise VideoError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise VideoError(path, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(info.st_mode):
        raise VideoError(path, "not a regular file")
    if info.st_size == 0:
        raise VideoError(path, "empty file (0 bytes)")
    return info


def open_container(path: str | Path, threads: int | None = None) -> "av.container.InputContainer":
    """Open `path` with its first video stream set up for strict decoding; raises VideoError."""
    container = open_file(path, DEMUXERS, "video")
    if not container.streams.video:
        container.close()
        raise VideoError(path, "holds no video stream")
    context = container.streams.video[0].codec_context
    if context is None:
        container.close()
        raise VideoError(path, "no decoder for its video stream")
    context.options = dict(STRICT)
    if threads is None:
        context.thread_type = "AUTO"
    else:
        context.thread_count = threads
    return container


def open_file(path: str | Path, demuxers: str, what: str) -> "av.container.InputContainer":
    """Open a regular local file by one of the formats `demuxers`; VideoError naming `what` it should be where that fails."""
    av = import_av()
    require_file(path)
    try:
        return av.open(str(path), options={"format_whitelist": demuxers, "protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        found = kind_of(path)
        raise VideoError(path, f"not a readable {what}" + (f": it is {found}" if found else f" ({plain(error)})")) from None


def kind_of(path: str | Path) -> str | None:
    """What a file is by its first bytes, where that is something that people take for a video by mistake; else None."""
    with open(path, "rb") as file:
        start = file.read(512)
    for kind, marks in _KINDS.items():
        if any(start[place:].startswith(mark) for place, mark in marks):
            return kind
    if b"\0" in start:
        return None
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return "text" if error.start > len(start) - 4 and len(start) == 512 else None  # the last letter is cut
    return "text"


def plain(error: BaseException) -> str:
    """An FFmpeg error without errno and path."""
    return str(getattr(error, "strerror", None) or error)
