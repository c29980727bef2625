"""What tells one version of a video file from another, wherever it lies and whenever it was copied."""

import hashlib
import os
from pathlib import Path

from tasks.core.data.parsing import IMAGE_SUFFIXES
from tasks.core.video.media import require_file
from tasks.core.video.reader import VideoError

_BLOCK, _BLOCKS = 1 << 16, 16


def fingerprint(path: str | Path) -> str:
    """16 hexadecimal digits: SHA-256 of the size and the content; of a file above 1 MiB sixteen blocks of 64 KiB spread evenly, the first
    and the last included, so that an hour of video costs no more than a second of it. Of a folder of pictures: their names and sizes, and
    the content of sixteen of them.

    Raises:
        VideoError: nothing there that can be read.
    """
    digest = hashlib.sha256()
    try:
        if os.path.isdir(path):
            files = sorted(file for file in Path(path).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            digest.update("".join(f"{file.name}\t{file.stat().st_size}\n" for file in files).encode("utf-8", "surrogateescape"))
            for place in sorted({number * (len(files) - 1) // (_BLOCKS - 1) for number in range(_BLOCKS)} if files else ()):
                digest.update(files[place].read_bytes())
        else:
            _add_file(digest, path, require_file(path).st_size)
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror})") from None
    return digest.hexdigest()[:16]


def _add_file(digest: "hashlib._Hash", path: str | Path, size: int) -> None:
    digest.update(f"{size}\n".encode())
    with open(path, "rb") as file:
        if size <= _BLOCK * _BLOCKS:
            digest.update(file.read())
            return
        for number in range(_BLOCKS):
            file.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
