"""What the records of videos have in common, and whether the files of one are there already."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def video_facts(detection: Any) -> dict[str, int | float]:
    """`n_frames`, `fps`, `duration_s`, `start_s`, `width`, `height` of a detection as plain numbers."""
    kinds = {"n_frames": int, "fps": float, "duration_s": float, "start_s": float, "width": int, "height": int}
    return {name: kind(getattr(detection, name)) for name, kind in kinds.items()}


def finished(
    wanted: Sequence[Path], record_file: Path, shown: str, method: str, settings: Mapping[str, Any], video: str
) -> dict[str, Any] | None:
    """The record of a video whose files are all there, younger than it and made with the same settings as far as its JSON file tells.

    Args:
        wanted: the files.
        record_file: the JSON file that holds the record, looked at where there is one.
        shown: the video as it was named.
        method, settings: what the record must have been made with.
        video: its path.

    Returns:
        the record (only `video` where there is no JSON file) with `files` and `"skipped": True`; None where there is work to do.
    """
    if not all(path.is_file() for path in wanted):
        return None
    if os.path.exists(video) and min(p.stat().st_mtime for p in wanted) < os.path.getmtime(video):
        return None
    record = {"video": shown}
    if record_file.exists():
        try:
            record = json.loads(record_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or (record.get("method"), record.get("settings")) != (method, settings):
            return None
    return {**record, "files": [str(path) for path in wanted], "skipped": True}


def readable(path: str) -> str:
    """A path as text that can be written as UTF-8: bytes of a file name that are none become a replacement character."""
    return os.fsencode(path).decode("utf-8", "replace")
