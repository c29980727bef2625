"""Reading every file of a manifest once, and saying what is wrong with it before a GPU waits for it."""

import hashlib
import importlib.util
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.video.cache import index_of
from tasks.core.video.manifest import Row
from tasks.core.video.reader import VideoError, open_video

VFR_SPREAD = 0.1  # a frame step this much off the median step, as a share of it, makes a variable frame rate
_CHUNK = 1 << 20


@dataclass
class CheckResult:
    """What was found out about one row.

    Attributes:
        row: its number; path, label: as in the manifest.
        ok: frames can be read from it.
        problems: what is wrong, in words; a row can be ok and have problems.
        n_frames: really decodable; header_frames: claimed by the header, 0 where it claims none.
        duration_s: from the first to the end of the last frame; fps: average; vfr: variable frame rate; b_frames: stored out of order.
        seek: reader -> {"wrong", "queries"} of random access compared with sequential decoding, or {"error"}.
        sha256: of the content; duplicate_of: path of an earlier row with the same content.
    """

    row: int
    path: str
    label: str | None = None
    ok: bool = False
    problems: list[str] = field(default_factory=list)
    n_frames: int = 0
    header_frames: int = 0
    duration_s: float = 0.0
    fps: float = 0.0
    vfr: bool = False
    codec: str | None = None
    container: str | None = None
    b_frames: bool = False
    height: int = 0
    width: int = 0
    size_bytes: int = 0
    seek: dict[str, dict[str, Any]] = field(default_factory=dict)
    sha256: str | None = None
    duplicate_of: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def seek_ok_decord(self) -> bool | None:
        """Whether decord was exact; None where it was not tried. A manifest keeps it in the column of this name."""
        found = self.seek.get("decord")
        return None if found is None else found.get("wrong") == 0


def check_rows(
    rows: list[Row], workers: int | None = None, timeout_s: float = 300.0, few: int = 2, seek: bool = True
) -> Iterator[CheckResult]:
    """Check every row, each file once, in separate processes; results come in the order of the rows.

    A file on which a decoder hangs or crashes is reported like any other unreadable one. Indexes stay in the cache,
    where readers find them.

    Args:
        workers: processes; None: one per core, at most 8.
        timeout_s: time for one file.
        few: classes with fewer rows than this are named as a problem of each of their rows.
        seek: also measure random access (costs a second decoding of part of each file).
    """
    from tasks.core.video.checkers import run_all
    from tasks.core.video.children import default_workers

    count = Counter(row.label for row in rows)
    labelled = any(row.label is not None for row in rows)
    first_with: dict[str, str] = {}
    paths = list(dict.fromkeys(row.path for row in rows))
    answers: dict[str, dict[str, Any]] = {}
    waiting = iter(run_all(paths, default_workers(workers), timeout_s, seek))
    for number, row in enumerate(rows):
        while row.path not in answers:
            path, facts = next(waiting)
            answers[path] = facts
        facts = answers[row.path]
        result = CheckResult(number, row.path, row.label, **{**facts, "problems": list(facts.get("problems", []))})
        result.problems += _row_problems(row, result)
        if labelled and row.label is None:
            result.problems.append("no label")
        elif labelled and count[row.label] < few:
            result.problems.append(f"class '{row.label}' has only {count[row.label]} row" + "s" * (count[row.label] != 1))
        if result.sha256:
            earlier = first_with.setdefault(result.sha256, row.path)
            if earlier != row.path:
                result.duplicate_of = earlier
                result.problems.append(f"same content as {earlier}")
        yield result


def summary(results: Iterable[CheckResult]) -> dict[str, Any]:
    """Totals of a check: rows, files ok and not, damaged, vfr, duplicates, unlabelled, hours, rows per class, codecs, decord's verdicts."""
    results = list(results)
    files = list({r.path: r for r in results}.values())
    return {
        "rows": len(results),
        "files": len(files),
        "ok": sum(r.ok for r in results),
        "failed": sum(not r.ok for r in results),
        "with_problems": sum(bool(r.problems) for r in results),
        "vfr": sum(r.vfr for r in files),
        "b_frames": sum(r.b_frames for r in files),
        "duplicates": sum(r.duplicate_of is not None for r in results),
        "unlabelled": sum(r.label is None for r in results),
        "hours": sum(r.duration_s for r in files) / 3600,
        "codecs": dict(Counter(f"{r.codec} in {r.container}" for r in files if r.codec)),
        "classes": dict(sorted(Counter(r.label for r in results if r.label is not None).items())),
        "pyav_inexact": sum(r.seek.get("pyav", {}).get("wrong", 0) > 0 for r in files),
        "decord_exact": sum(r.seek_ok_decord is True for r in files),
        "decord_inexact": sum(r.seek_ok_decord is False for r in files),
    }


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
                facts |= _file_facts(reader.index)
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
    from tasks.core.video.decord_reader import may_try

    if importlib.util.find_spec("decord") is not None and may_try(index.container, index.codec):
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


def _times(pts: np.ndarray, fps: float) -> dict[str, Any]:
    steps = np.diff(pts)
    usual = float(np.median(steps)) if len(steps) else 1.0 / fps
    uneven = bool(len(steps) and np.abs(steps - usual).max() > max(VFR_SPREAD * usual, 0.0015))
    return {"duration_s": float(pts[-1] - pts[0]) + usual, "vfr": uneven}


def _row_problems(row: Row, result: CheckResult) -> list[str]:
    if not result.ok:
        return []
    if row.start_s is not None and row.start_s >= result.duration_s and result.duration_s:
        return [f"its part begins at {row.start_s:g} s, the video is {result.duration_s:.2f} s long"]
    return []


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
