"""`vid eval boundaries`: predicted boundaries against annotated ones, by the field's scorer."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tasks.boundaries.annotations import import_annotations, load, parse_json, video_names
from tasks.boundaries.result import part_name
from tasks.boundaries.writers import SUFFIXES
from tasks.core.engine.run import source_commit
from tasks.core.errors import InputError
from tasks.core.metrics.boundaries import gebd_scores, seconds
from tasks.core.reporter import Reporter

_SUFFIX = SUFFIXES["json"]
_KNOWN_SHAPES = "{video: [seconds, ...]}, or what vid detect-boundaries writes"


def run(
    predictions: str | Path,
    ground_truth: str | Path,
    reporter: Reporter,
    protocol: str = "gebd",
    min_consistency: float | None = None,
    missing: Literal["count", "drop", "error"] = "count",
) -> dict[str, Any]:
    """One JSON-able object: what `gebd_scores` returns, and where the numbers come from.

    Args:
        predictions: see `read_predictions`.
        ground_truth: see `annotations.import_annotations`; of a TAPOS file its `val`.
        protocol, min_consistency, missing: see `gebd_scores`.

    Raises:
        InputError: a file cannot be read or used.
        UsageError: unknown protocol, or a pickle that asks for more than data.
    """
    annotations = import_annotations(ground_truth)
    for reason, count in annotations.left_out.items():
        reporter.info(f"left out {count} of the ground truth: {reason}")
    truth = annotations.truth
    found = read_predictions(predictions, truth)
    scores = gebd_scores(found, truth, protocol=protocol, min_consistency=min_consistency, missing=missing)
    if scores["n_missing"]:
        fate = "they count as if nothing was found" if missing == "count" else "they are left out"
        reporter.warn(f"{scores['n_missing']} videos of the ground truth have no predictions: {fate}")
    if scores["n_unknown"]:
        first = next(video for video in found if video not in truth)
        reporter.warn(f"{scores['n_unknown']} predicted videos are not in the ground truth and are ignored, the first is '{first}'")
    if not scores["n_videos"]:
        reporter.warn("no video of the ground truth counts: the scores say nothing")
    return {
        **scores,
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "data_hash": hashlib.sha256(Path(ground_truth).read_bytes()).hexdigest()[:16],
        "commit": source_commit(),
    }


def read_predictions(path: str | Path, truth: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """Predicted times in seconds from the start of each video.

    Args:
        path: a JSON file or the challenge's pickle `{video: [seconds, ...]}`, whose names are taken as they stand; or this tool's own
            output: a folder of `*.boundaries.json`, a JSON Lines file, or a JSON file of one object or a list of them. An object has
            `video` (a path), `boundaries` (`[{"t": seconds}, ...]`) and perhaps `start_s`, the presentation time of the first frame, which
            is subtracted; one with `error` instead says that the video could not be read, which leaves it without predictions. Its video is
            found in the truth by the file's stem, see `annotations.video_names`.
        truth: in the truth format; its `path` and `path_video` name videos too.

    Raises:
        InputError: the file cannot be read or used; a name fits two videos of the truth; two objects are about one video.
    """
    path = Path(path)
    content = _content(path)
    if isinstance(content, Mapping) and not isinstance(content.get("video"), str):
        return {str(video): list(seconds(times, f"{path}: '{video}'")) for video, times in content.items()}
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        raise InputError(f"{path}: these are not predictions", f"expected: {_KNOWN_SHAPES}")
    names = _names(truth)
    found: dict[str, list[float]] = {}
    for record in content:
        if isinstance(record, Mapping) and "error" in record and "boundaries" not in record:
            continue
        video, times = _own(record, names, path)
        if video in found:
            raise InputError(f"{path}: two predictions for '{video}', the second from {record['video']}")
        found[video] = times
    return found


def _content(path: Path) -> Any:
    """The parsed file; the objects of a folder or of JSON Lines as a list."""
    if path.is_dir():
        files = sorted(path.rglob(f"*{_SUFFIX}"))
        if not files:
            raise InputError(f"{path}: no *{_SUFFIX} in this folder")
        return [load(file) for file in files]
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _lines(path)
    try:
        return load(path)
    except InputError as error:
        if "Extra data" not in error.message:
            raise
        return _lines(path)


def _lines(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    return [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _names(truth: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Name of a video -> the videos of the truth that it may mean."""
    names: dict[str, set[str]] = {}
    for video, entry in truth.items():
        for known in (video, entry.get("path"), entry.get("path_video")):
            if isinstance(known, str):
                names.setdefault(video_names(known)[0], set()).add(video)
    return names


def _own(record: Any, names: Mapping[str, set[str]], path: Path) -> tuple[str, list[float]]:
    """The video that an object of our own output is about, as the truth calls it (else its stem), and its times."""
    if not isinstance(record, Mapping) or not isinstance(record.get("video"), str):
        raise InputError(f"{path}: an object without 'video'", f"expected: {_KNOWN_SHAPES}")
    stem = video_names(record["video"])[0]
    known = video_names(record["video"])
    if record.get("part"):
        start, end = record["part"]
        known = [part_name(stem, start, end), *known]
    meant = next((names[name] for name in known if name in names), {known[0]})
    if len(meant) > 1:
        raise InputError(f"{path}: {record['video']} may be any of {', '.join(map(repr, sorted(meant)))}", "give the videos distinct names")
    what = f"{path}: {record['video']}"
    marks = record.get("boundaries")
    if not isinstance(marks, list) or not all(isinstance(mark, Mapping) and "t" in mark for mark in marks):
        raise InputError(f"{what} has no list of boundaries with their times 't'", f"expected: {_KNOWN_SHAPES}")
    (start,) = seconds([record.get("start_s") or 0.0], what)
    return next(iter(meant)), [t - start for t in seconds([mark["t"] for mark in marks], what)]
