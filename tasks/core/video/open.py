"""Opening a file or a folder of pictures with the reader that suits it."""

import os
from pathlib import Path

from tasks.core.errors import UsageError
from tasks.core.video.reader import VideoReader

BACKENDS = ("auto", "pyav", "decord")


def open_video(path: str | Path, backend: str = "auto", *, threads: int | None = None, fps: float = 25.0) -> VideoReader:
    """Open a video file or a folder of pictures.

    `auto` takes PyAV: with its index it is exact on every file, and it takes a third to half of decord's time (`scripts/bench masked
    --only loader`). decord serves those who ask for it; `vid data check` says on which files it is exact.

    Args:
        backend: `auto`, `pyav` or `decord`; a folder of pictures always uses the frames reader.
        threads: decoder threads; None lets the decoder choose, loader workers use 1.
        fps: frame rate of a folder of pictures, which has no time of its own.

    Raises:
        VideoError: missing, empty, damaged beyond use, or no video.
        UsageError: unknown backend.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown decoder '{backend}'", f"known: {', '.join(BACKENDS)}")
    path = str(path)
    if os.path.isdir(path):
        from tasks.core.video.frames_reader import FramesReader

        return FramesReader(path, fps=fps)
    if backend == "decord":
        from tasks.core.video.decord_reader import DecordReader

        return DecordReader(path, threads=threads)
    from tasks.core.video.pyav_reader import PyavReader

    return PyavReader(path, threads=threads)
