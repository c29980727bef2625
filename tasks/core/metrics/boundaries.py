"""F1 of event boundaries at relative distances, as the public Kinetics-GEBD scorer counts it (Shou et al., ICCV 2021; LOVEU challenge).

The counts are summed over all videos, precision, recall and F1 are made from the sums (micro average):

1. Videos whose annotators agree less than 0.3 (`f1_consis_avg`) are dropped; exactly 0.3 stays.
2. Detections outside [0, duration] are dropped.
3. A video without predictions, or with none left, adds the number of boundaries of its *first* annotator to the positives.
4. Otherwise each annotator is matched one to one with the detections: his boundaries in the order they are listed each take the nearest
   detection still free (the first listed of equally near ones) if it is at most threshold x duration away. The annotator with the best
   F1 of this video (the first of equals) counts; one without any boundary has recall 1, precision 0, F1 0.

The challenge script is followed where it and the notebook of the same authors differ: seconds, not frames, and a missing video counts
as an empty one (the notebook leaves it out: `missing="drop"`). Unlike the script, numbers that are not finite are errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.core.errors import InputError, UsageError

THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
_CELLS = 1 << 18  # (rows x thresholds x detections) that are matched at once: a few MB


@dataclass(frozen=True)
class Protocol:
    """What differs between data sets.

    Attributes:
        min_consistency: videos with less are dropped; None: none are.
        internal_only: videos in which the first annotator marked nothing are dropped with their detections.
    """

    min_consistency: float | None
    internal_only: bool


PROTOCOLS = {"gebd": Protocol(0.3, False), "tapos": Protocol(None, True)}
"""`gebd`: Kinetics-GEBD. `tapos`: instances of TAPOS, one annotator, no consistency; only instances with a boundary inside count."""


@dataclass(frozen=True)
class VideoTruth:
    """The annotation of one video.

    Attributes:
        duration_s: length, >= 0.
        boundaries_s: per annotator, times from the start of the video in seconds, in the order listed.
        consistency: mean agreement of the annotators, in [0, 1].
        fps, n_frames, path: of the video, where the annotation says so.
    """

    duration_s: float
    boundaries_s: tuple[tuple[float, ...], ...]
    consistency: float
    fps: float | None = None
    n_frames: int | None = None
    path: str | None = None

    @classmethod
    def from_entry(cls, video: str, entry: Any) -> "VideoTruth":
        """From the official format: `video_duration`, `f1_consis_avg`, `substages_timestamps`, and `fps`, `num_frames`, `path` if there.

        Raises:
            InputError: naming the video and the field.
        """
        if isinstance(entry, VideoTruth):
            return entry
        if not isinstance(entry, Mapping):
            raise InputError(f"truth of '{video}': an object was expected, got {_kind(entry)}")
        for key in ("video_duration", "f1_consis_avg", "substages_timestamps"):
            if key not in entry:
                raise InputError(f"truth of '{video}' has no {key}", "it needs video_duration, f1_consis_avg and substages_timestamps")
        duration = _number(entry["video_duration"], f"truth of '{video}': video_duration")
        if duration < 0:
            raise InputError(f"truth of '{video}': video_duration is negative ({duration:g} s)")
        raters = entry["substages_timestamps"]
        if not isinstance(raters, list | tuple):
            raise InputError(f"truth of '{video}': substages_timestamps must hold one list of seconds per annotator")
        fps, n_frames, path = entry.get("fps"), entry.get("num_frames"), entry.get("path")
        if path is not None and not isinstance(path, str):
            raise InputError(f"truth of '{video}': path must be text, got {_kind(path)}")
        return cls(
            duration,
            tuple(seconds(rater, f"truth of '{video}': substages_timestamps") for rater in raters),
            _number(entry["f1_consis_avg"], f"truth of '{video}': f1_consis_avg"),
            None if fps is None else _number(fps, f"truth of '{video}': fps"),
            None if n_frames is None else int(_number(n_frames, f"truth of '{video}': num_frames")),
            path,
        )


def gebd_scores(
    predictions: Mapping[str, Sequence[float]],
    truth: Mapping[str, VideoTruth | Mapping[str, Any]],
    thresholds: Sequence[float] = THRESHOLDS,
    protocol: str = "gebd",
    min_consistency: float | None = None,
    missing: Literal["count", "drop", "error"] = "count",
) -> dict[str, Any]:
    """Precision, recall and F1 at every threshold.

    Args:
        predictions: video -> times in seconds from its start, any order.
        truth: video -> annotation, as an object or in the official format.
        thresholds: largest distance that counts, as a share of the video's duration.
        protocol: `gebd` or `tapos`.
        min_consistency: instead of the protocol's.
        missing: what happens to a video of the truth without predictions: `count` as if they were empty, `drop` it, `error`.

    Returns:
        `f1`, `precision`, `recall`: threshold ("0.05", ..., "0.50") -> value in [0, 1]; `avg_f1`, `avg_precision`, `avg_recall`: their
        means; `n_videos` that count; `n_dropped` by the protocol; `n_missing` without predictions (of those that the protocol keeps);
        `n_unknown` predicted videos that the truth lacks (they are ignored); `protocol`, `min_consistency`, `missing`.

    Raises:
        UsageError: unknown protocol.
        InputError: a value of the wrong kind, not finite or negative; missing videos with `error`.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol '{protocol}'", f"known: {', '.join(PROTOCOLS)}")
    rules = PROTOCOLS[protocol]
    least = rules.min_consistency if min_consistency is None else min_consistency
    kept = {video: VideoTruth.from_entry(video, entry) for video, entry in truth.items()}
    kept = {video: entry for video, entry in kept.items() if least is None or not entry.consistency < least}
    for video, entry in kept.items():
        if not entry.boundaries_s:
            raise InputError(f"truth of '{video}' has no annotator", "substages_timestamps needs at least one list, which may be empty")
    if rules.internal_only:
        kept = {video: entry for video, entry in kept.items() if entry.boundaries_s[0]}
    n_dropped = len(truth) - len(kept)
    absent = [video for video in kept if video not in predictions]
    if absent and missing == "error":
        raise InputError(f"{len(absent)} of {len(kept)} videos have no predictions, the first is '{absent[0]}'")
    if absent and missing == "drop":
        kept = {video: entry for video, entry in kept.items() if video in predictions}

    precision, recall, f1 = _scores(*_totals(predictions, kept, np.asarray(thresholds, dtype=np.float64)))
    names = [f"{threshold:.2f}" for threshold in thresholds]
    return {
        "f1": dict(zip(names, f1.tolist(), strict=True)),
        "precision": dict(zip(names, precision.tolist(), strict=True)),
        "recall": dict(zip(names, recall.tolist(), strict=True)),
        "avg_f1": float(f1.mean()),
        "avg_precision": float(precision.mean()),
        "avg_recall": float(recall.mean()),
        "n_videos": len(kept),
        "n_dropped": n_dropped,
        "n_missing": len(absent),
        "n_unknown": sum(video not in truth for video in predictions),
        "protocol": protocol,
        "min_consistency": least,
        "missing": missing,
    }


def seconds(values: Any, what: str) -> tuple[float, ...]:
    """A list of finite numbers; raises InputError that begins with `what`."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise InputError(f"{what}: a list of seconds was expected, got {_kind(values)}")
    return tuple(_number(value, what) for value in values)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{what}: a number was expected, got {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number):
        raise InputError(f"{what}: {number} is not a finite number")
    return number


def _kind(value: Any) -> str:
    return "null" if value is None else f"'{value}'" if isinstance(value, str) else type(value).__name__


def _totals(
    predictions: Mapping[str, Sequence[float]], truth: Mapping[str, VideoTruth], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Matches (T,), positives (T,) and the number of detections, summed over videos."""
    undetected = n_found = 0
    marked, found, durations, first_row = [], [], [], []
    for video, entry in truth.items():
        times = np.array(seconds(predictions.get(video, ()), f"predictions of '{video}'"), dtype=np.float64)
        times = times[(times >= 0) & (times <= entry.duration_s)]
        if not len(times):
            undetected += len(entry.boundaries_s[0])
            continue
        n_found += len(times)
        first_row.append(len(marked))
        marked += [np.array(rater, dtype=np.float64) for rater in entry.boundaries_s]
        found += [times] * len(entry.boundaries_s)
        durations += [entry.duration_s] * len(entry.boundaries_s)
    if not marked:
        return np.zeros(len(thresholds)), np.full(len(thresholds), float(undetected)), 0
    matches = match_counts(marked, found, np.array(durations)[:, None] * thresholds)
    n_marked = np.array([len(times) for times in marked])
    best = _best_rows(_scores(matches, n_marked[:, None], np.array([len(times) for times in found])[:, None])[2], np.array(first_row))
    return np.take_along_axis(matches, best, 0).sum(0), n_marked[best].sum(0) + undetected, n_found


def match_counts(marked: Sequence[np.ndarray], found: Sequence[np.ndarray], reach: np.ndarray) -> np.ndarray:
    """Greedy one-to-one matches (rule 4 above) of R pairs of lists at T distances, many pairs at once.

    Args:
        marked: R arrays (G_r,) of annotated times.
        found: R arrays (D_r,) of detected times, D_r >= 1.
        reach: (R, T) largest distance.

    Returns:
        (R, T) int64.
    """
    counts = np.zeros(reach.shape, dtype=np.int64)
    order = sorted(range(len(marked)), key=lambda row: (-len(found[row]), -len(marked[row])))  # rows of a batch are about equally long
    start = 0
    while start < len(order):
        size = max(1, _CELLS // (reach.shape[1] * len(found[order[start]])))
        rows = order[start : start + size]
        counts[rows] = _match(_padded([marked[row] for row in rows], np.nan), _padded([found[row] for row in rows], np.inf), reach[rows])
        start += size
    return counts


def _padded(lists: list[np.ndarray], rest: float) -> np.ndarray:
    """(rows, longest), the rest of each row `rest`."""
    table = np.full((len(lists), max(map(len, lists))), rest)
    for row, values in zip(table, lists, strict=True):
        row[: len(values)] = values
    return table


def _match(marked: np.ndarray, found: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """`match_counts` of tables (R, G) padded with NaN, which is within reach of nothing, and (R, D) padded with inf, out of reach; one
    step per boundary, over all rows and distances.
    """
    counts = np.zeros(reach.shape, dtype=np.int64)
    taken = np.zeros((*reach.shape, found.shape[1]), dtype=bool)
    for times in marked.T:
        distance = np.abs(times[:, None] - found)
        distance = np.where(taken, np.inf, distance[:, None, :])
        nearest = distance.argmin(-1)[..., None]
        hit = np.take_along_axis(distance, nearest, -1) <= reach[..., None]
        np.put_along_axis(taken, nearest, hit | np.take_along_axis(taken, nearest, -1), -1)
        counts += hit[..., 0]
    return counts


def _scores(matches: np.ndarray, positives: np.ndarray, detections: np.ndarray | int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (0 without detections), recall (1 without positives) and F1 (0 where both are 0).

    F1 is computed from precision and recall in this order, not from the counts: annotators whose F1 are equal on paper are told apart by
    the last bit, as the public scorer does.
    """
    precision = np.where(detections == 0, 0.0, matches / np.maximum(detections, 1))
    recall = np.where(positives == 0, 1.0, matches / np.maximum(positives, 1))
    total = recall + precision
    f1 = np.where(total == 0, 0.0, 2 * recall * precision / np.where(total == 0, 1.0, total))
    return precision, recall, f1


def _best_rows(f1: np.ndarray, first_row: np.ndarray) -> np.ndarray:
    """The row with the largest F1 among the rows of each video, the first of equals. f1: (R, T), a video's rows contiguous from
    `first_row` (V,) on -> (V, T).
    """
    lengths = np.diff(np.append(first_row, len(f1)))
    best = np.repeat(np.maximum.reduceat(f1, first_row, axis=0), lengths, axis=0)
    numbers = np.where(f1 == best, np.arange(len(f1))[:, None], len(f1))
    return np.minimum.reduceat(numbers, first_row, axis=0)
