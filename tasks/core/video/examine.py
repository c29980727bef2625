"""What can be found out about one file by reading it: its streams, its times, and whether random access is exact."""

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.video.cache import index_of
from tasks.core.video.media import open_container
from tasks.core.video.open import open_video
from tasks.core.video.quirks import Trait, applies
from tasks.core.video.reader import VideoError

VFR_SPREAD = 0.1  # a frame step this much off the median step, as a share of it, makes a variable frame rate


_CHUNK = 1 << 20


def examine(path: str, seek: bool = True) -> Iterator[dict[str, Any]]:
    """Facts about one file as CheckResult fields: first all that PyAV tells, then, where it may be tried, the same with decord's part.

    Runs in a process of its own: decord can hang.
    """
    facts: dict[str, Any] = {"ok": False, "problems": []}
    try:
        facts |= {"size_bytes": _size(path), "sha256": content_hash(path)}
        if not os.path.isdir(path):
            index_of(path, full=True)
        with open_video(path, "pyav") as reader:
            facts |= {"n_frames": reader.n_frames, "height": reader.height, "width": reader.width, "fps": reader.fps}
            facts |= _times(reader.pts, reader.fps)
            if reader.backend == "frames":
                facts |= {"container": "frames", "codec": Path(path).suffix or "images", "ok": True}
                for _ in reader.frames():
                    pass
            else:
                facts |= {**_file_facts(reader.index), "sound": _sound(path)}
    except (VideoError, OSError) as error:
        facts["ok"] = False
        facts["problems"].append(error.reason if isinstance(error, VideoError) else str(error))
        yield facts
        return
    index = None if os.path.isdir(path) else index_of(path)
    truth = None
    if index is not None and seek:
        from tasks.core.video import probe

        numbers = probe.probe_numbers(index)
        truth = probe.sequential_pictures(path, index, numbers)
        facts["seek"] = {"pyav": _measure(path, "pyav", truth, numbers)}
        if facts["seek"]["pyav"].get("wrong") != 0:
            facts["problems"].append("PyAV's random access is not exact here")
    yield facts
    if truth is None or index.damage:
        return
    if importlib.util.find_spec("decord") is not None and applies(Trait.DECORD, index.container, index.codec):
        decord = _measure(path, "decord", truth, numbers)
        yield {**facts, "seek": {**facts["seek"], "decord": decord}}


def _measure(path: str, backend: str, truth: dict[int, np.ndarray], numbers: list[int]) -> dict[str, Any]:
    from tasks.core.video.probe import count_wrong

    try:
        with open_video(path, backend, threads=1) as reader:
            return {"wrong": count_wrong(reader, truth, numbers), "queries": len(numbers)}
    except VideoError as error:
        return {"error": error.reason, "queries": len(numbers)}


def _file_facts(index: Any) -> dict[str, Any]:
    problems = [index.damage] if index.damage else []
    if index.header_frames > len(index.ticks) + 2 and not index.damage:
        problems.append(f"the header claims {index.header_frames} frames, {len(index.ticks)} can be decoded")
    names = ("header_frames", "codec", "container", "b_frames")
    return {"ok": True, "problems": problems, **{name: getattr(index, name) for name in names}}


def _sound(path: str) -> dict[str, Any] | None:
    """What the header says of the first sound stream: codec, rate, channels, and how many seconds it begins after the pictures."""
    with open_container(path, threads=1) as container:
        stream = next(iter(container.streams.audio), None)
        if stream is None:
            return None
        context, pictures = stream.codec_context, container.streams.video[0]
        begins = [float(each.start_time * each.time_base) if each.start_time is not None else None for each in (pictures, stream)]
        return {
            "codec": context.codec.canonical_name if context else None,
            "rate": context.sample_rate if context else None,
            "channels": context.layout.nb_channels if context else None,
            "offset_s": None if None in begins else round(begins[1] - begins[0], 6),
        }


def _times(pts: np.ndarray, fps: float) -> dict[str, Any]:
    steps = np.diff(pts)
    usual = float(np.median(steps)) if len(steps) else 1.0 / fps
    uneven = bool(len(steps) and np.abs(steps - usual).max() > max(VFR_SPREAD * usual, 0.0015))
    return {"duration_s": float(pts[-1] - pts[0]) + usual, "vfr": uneven}


def _files(path: str) -> list[Path]:
    return sorted(f for f in Path(path).iterdir() if f.is_file()) if os.path.isdir(path) else [Path(path)]


def _size(path: str) -> int:
    try:
        return sum(f.stat().st_size for f in _files(path))
    except FileNotFoundError:
        raise VideoError(path, "no such file") from None


def content_hash(path: str) -> str:
    """SHA-256 of a file, or of the pictures of a folder in order."""
    from tasks.core.video.media import require_file

    digest = hashlib.sha256()
    for file in _files(path):
        require_file(file)
        with open(file, "rb") as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
    return digest.hexdigest()
