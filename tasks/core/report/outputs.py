"""What the records of videos have in common."""

import os
from pathlib import Path
from typing import Any


def video_facts(detection: Any) -> dict[str, int | float]:
    """`n_frames`, `fps`, `duration_s`, `start_s`, `width`, `height` of a detection as plain numbers."""
    kinds = {"n_frames": int, "fps": float, "duration_s": float, "start_s": float, "width": int, "height": int}
    return {name: kind(getattr(detection, name)) for name, kind in kinds.items()}


def readable(path: str) -> str:
    """A path as text that can be written as UTF-8: bytes of a file name that are none become a replacement character."""
    return os.fsencode(path).decode("utf-8", "replace")


def relative(file: str, page: Path) -> str:
    """The address of a file from a page, as a path."""
    return Path(os.path.relpath(os.path.realpath(file), os.path.realpath(page.parent))).as_posix()
