"""`vid eval anomalies`: scores of frames against labels of frames."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from tasks.anomalies.labels import Labels, read_labels
from tasks.anomalies.predictions import Predicted, read_predictions
from tasks.core.data.parsing import VIDEO_SUFFIXES
from tasks.core.engine.run import source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics import anomalies as metrics
from tasks.core.reporter import Reporter


@dataclass(frozen=True)
class Protocol:
    """How scores become a number.

    Attributes:
        name: of `metrics.PROTOCOLS`.
        smooth: (sigma, `s` or `frames`) of a Gaussian over each video, or None.
        normalize: of `metrics.NORMALIZATIONS`. Both see all scores of a video, also those of frames that do not count.
        one_class: macro-auc's way with videos of one class, see `metrics.macro_auc`.
        trim: first and last labelled frames of every video that do not count; (8, 7) is what windows of 16 frames leave without a score in
            published numbers.
        missing: labelled frames without a score are an error, or dropped.
    """

    name: str = "micro-auc"
    smooth: tuple[float, Literal["s", "frames"]] | None = None
    normalize: str = "none"
    one_class: Literal["pad", "skip"] = "pad"
    trim: tuple[int, int] = (0, 0)
    missing: Literal["error", "drop"] = "error"


@dataclass(frozen=True)
class Joined:
    """What is known of one labelled video: (n,) scores, (n,) labels and indicators of the frames that count."""

    scores: np.ndarray
    labels: np.ndarray
    parts: dict[str, np.ndarray]


def run(
    predictions: str | Path, ground_truth: str | Path, reporter: Reporter, protocol: Protocol = Protocol(), page: Path | None = None
) -> dict[str, Any]:
    """One JSON-able object.

    Args:
        predictions: see `read_predictions`.
        ground_truth: see `read_labels`. Videos are paired by `paired`, frames by number.
        reporter: is told what is odd.
        protocol: how scores become a number.
        page: a page with ROC curve and histogram goes there.

    Returns:
        `auc` by `protocol` in [0, 1] (None where the frames are all of one class), `eer` and `ap` over all frames; `parts`: indicator ->
        the same AUC of it alone, where every video has it; `videos`: video -> `auc` (None: one class), `n_frames`, `n_anomalous`;
        `n_frames`, `n_anomalous`, `n_videos`, `n_one_class` of what counts; `n_unscored` labelled frames without a score,
        `n_unlabelled` scored frames without a label; `one_class` (macro-auc only), `smoothing`, `normalization`, `trim`, `missing`;
        `predictions`, `ground_truth`, `data_hash`, `commit`.

    Raises:
        InputError: a file cannot be read or used; labelled frames without a score (unless dropped); nothing in common.
        UsageError: unknown protocol or normalisation.
    """
    if protocol.name not in metrics.PROTOCOLS:
        raise UsageError(f"unknown protocol '{protocol.name}'", f"known: {', '.join(metrics.PROTOCOLS)}")
    predicted = {video.video: video for video in read_predictions(predictions)}
    labels = read_labels(ground_truth, list(predicted.values()))
    pairs = paired(list(labels), list(predicted), reporter)
    videos, n_unscored = _joined(labels, predicted, pairs, protocol, reporter)
    n_scored = sum(len(video.frame) for video in predicted.values())
    scores, truth = [video.scores for video in videos.values()], [video.labels for video in videos.values()]
    score = _measure(protocol)
    value = score(scores, truth)
    flat = np.concatenate(scores), np.concatenate(truth)
    one_class = [video for video, joined in videos.items() if joined.labels.min() == joined.labels.max()]
    if value is None:
        reporter.warn("the frames that count are all of one class: there is no AUC")
    elif one_class and protocol.name == "macro-auc":
        way = "with one added normal and anomalous frame each" if protocol.one_class == "pad" else "left out"
        reporter.warn(f"{len(one_class)} of {len(videos)} videos have frames of one class only; they are {way}, as --one-class says")
    result = {
        "protocol": protocol.name,
        "auc": value,
        "eer": metrics.equal_error_rate(*flat),
        "ap": metrics.average_precision(*flat),
        "parts": _parts(videos, score, truth, reporter),
        "n_frames": len(flat[0]),
        "n_anomalous": int(flat[1].sum()),
        "n_videos": len(videos),
        "n_one_class": len(one_class),
        "n_unscored": n_unscored,
        "n_unlabelled": n_scored - _n_labelled(labels, predicted, pairs),
        "one_class": protocol.one_class if protocol.name == "macro-auc" else None,
        "smoothing": {"kind": "gaussian", "sigma": protocol.smooth[0], "unit": protocol.smooth[1]} if protocol.smooth else None,
        "normalization": protocol.normalize,
        "trim": list(protocol.trim),
        "missing": protocol.missing,
        "videos": {
            video: {"auc": metrics.auc(j.scores, j.labels), "n_frames": len(j.labels), "n_anomalous": int(j.labels.sum())}
            for video, j in videos.items()
        },
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "data_hash": _hash(Path(ground_truth)),
        "commit": source_commit(),
    }
    if page is not None:
        from tasks.anomalies.evaluation_page import write_page

        write_page(
            page, result, *flat, {name: np.concatenate([video.parts[name] for video in videos.values()]) for name in result["parts"]}
        )
    return result


def paired(labelled: Sequence[str], predicted: Sequence[str], reporter: Reporter) -> dict[str, str]:
    """Labelled video -> predicted video, where there is one.

    Names are compared without the suffix of a video file, in three steps, each among the videos that are left: the same name; one name is
    the end of the other (`test/01` and `ped2/test/01.mp4`); the same last part.

    Raises:
        InputError: a name fits several videos in the step that pairs it.
    """
    found: dict[str, str] = {}
    ways: tuple[Callable[[tuple[str, ...], tuple[str, ...]], bool], ...] = (
        lambda a, b: a == b,
        lambda a, b: a[-len(b) :] == b or b[-len(a) :] == a,
        lambda a, b: a[-1] == b[-1],
    )
    for step, fits in enumerate(ways):
        left = {video: _name(video) for video in labelled if video not in found}
        right = {video: _name(video) for video in predicted if video not in found.values()}
        by_last: dict[str, list[str]] = {}
        for video, name in right.items():
            by_last.setdefault(name[-1], []).append(video)
        new: dict[str, str] = {}
        for video, name in left.items():
            fitting = [other for other in by_last.get(name[-1], ()) if fits(name, right[other])]
            if len(fitting) > 1:
                raise InputError(f"'{video}' of the labels may be any of {', '.join(map(repr, fitting))}", "give the videos distinct names")
            if fitting and fitting[0] in new.values():
                first = next(known for known, other in new.items() if other == fitting[0])
                raise InputError(f"predicted '{fitting[0]}' may be '{first}' or '{video}' of the labels", "give the videos distinct names")
            if fitting:
                new[video] = fitting[0]
        if step == 2 and new:
            video = next(iter(new))
            reporter.info(f"{len(new)} videos are paired by file name alone, e.g. '{video}' with '{new[video]}'")
        found |= new
    return found


def _name(video: str) -> tuple[str, ...]:
    parts = [part for part in PurePosixPath(video.replace("\\", "/")).parts if part not in ("/", ".", "..")] or [video]
    last = PurePosixPath(parts[-1])
    return (*parts[:-1], last.stem if last.suffix.lower() in VIDEO_SUFFIXES else last.name)


def _joined(
    labels: Labels, predicted: Mapping[str, Predicted], pairs: Mapping[str, str], protocol: Protocol, reporter: Reporter
) -> tuple[dict[str, Joined], int]:
    """The videos that count, and the number of labelled frames without a score."""
    videos: dict[str, Joined] = {}
    n_unscored, first = 0, ""
    for video, (frame, label) in labels.items():
        keep = slice(protocol.trim[0], max(protocol.trim[0], len(frame) - protocol.trim[1]))
        frame, label = frame[keep], label[keep]
        found = predicted.get(pairs.get(video, ""))
        common, left, right = np.intersect1d(frame, found.frame if found else [], assume_unique=True, return_indices=True)
        if len(common) < len(frame):
            first = first or f"frame {np.setdiff1d(frame, common)[0]} of '{video}'"
            n_unscored += len(frame) - len(common)
        if found and len(common):
            made = {name: _changed(values, found, protocol)[right] for name, values in found.parts.items()}
            videos[video] = Joined(_changed(found.score, found, protocol)[right], label[left], made)
    if n_unscored and protocol.missing == "error":
        raise InputError(f"{n_unscored} labelled frames have no score, the first is {first}", "--missing drop leaves them out")
    if n_unscored:
        reporter.warn(f"{n_unscored} labelled frames have no score and are left out, the first is {first}")
    if not videos:
        raise InputError("no labelled frame has a score", "are these predictions of the labelled videos?")
    return videos, n_unscored


def _changed(values: np.ndarray, video: Predicted, protocol: Protocol) -> np.ndarray:
    """Smoothed and normalised as the protocol says."""
    if protocol.smooth:
        sigma, unit = protocol.smooth
        if unit == "s" and video.t is None:
            raise InputError(f"smoothing in seconds needs the times of '{video.video}'", "a column t (s), or --smooth in frames: 5f")
        values = metrics.smoothed(values, video.t if unit == "s" else video.frame, sigma)
    return metrics.normalized(values, protocol.normalize)


def _measure(protocol: Protocol) -> Callable[[list[np.ndarray], list[np.ndarray]], float | None]:
    if protocol.name == "micro-auc":
        return metrics.micro_auc
    return lambda scores, labels: metrics.macro_auc(scores, labels, protocol.one_class)


def _parts(videos: Mapping[str, Joined], score: Callable, truth: list[np.ndarray], reporter: Reporter) -> dict[str, float | None]:
    names = [name for name in next(iter(videos.values())).parts if all(name in video.parts for video in videos.values())]
    found: dict[str, float | None] = {}
    for name in names:
        try:
            found[name] = score([video.parts[name] for video in videos.values()], truth)
        except InputError as error:
            reporter.warn(f"indicator '{name}': {error.message}")
            found[name] = None
    return found


def _n_labelled(labels: Labels, predicted: Mapping[str, Predicted], pairs: Mapping[str, str]) -> int:
    """Scored frames that have a label, whether they count or not."""
    return sum(len(np.intersect1d(labels[video][0], predicted[other].frame)) for video, other in pairs.items())


def _hash(path: Path) -> str:
    files = sorted(file for file in path.rglob("*") if file.suffix in (".npy", ".txt")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
