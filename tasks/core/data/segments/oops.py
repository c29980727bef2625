"""Annotations of Oops (Epstein et al., CVPR 2020): `{video: {"t": [seconds, ...], "len": seconds, ...}}`, when an action fails.

Several people marked the moment, -1 where they saw no failure. Videos are cut into short clips of three classes: before the failure, with
it, and after it.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median_high
from typing import Any

from tasks.core.data.segments.annotations import Annotations, Choices
from tasks.core.errors import InputError, UsageError

INTENTIONAL, TRANSITIONAL, UNINTENTIONAL = "intentional", "transitional", "unintentional"
WINDOW_S, STEP_S = 1.0, 0.25
"""Clips of the public code: 16 frames at 16 frames per second, a quarter of a second apart."""
SHORTEST_S, LONGEST_S, MARGIN = 3.2, 30.0, 0.01
"""Videos that the public code keeps: of this length, with a failure that is further than this share of it from both ends."""
_SPLITS = ("train", "val")


def is_oops(content: Any) -> bool:
    """Whether videos have times and a length."""
    if not isinstance(content, Mapping) or not content:
        return False
    entry = next(iter(content.values()))
    return isinstance(entry, Mapping) and isinstance(entry.get("t"), list) and "len" in entry


def read_oops(content: Any, where: str, choices: Choices) -> Annotations:
    """Clips with their class; columns `duration` and `failure_s`, the middle one of the marked times (of two the later).

    Splits are those of `train_filtered.txt` and `val_filtered.txt` beside the file, which leave out videos of bad quality, else of
    `train.txt` and `val.txt`; without such lists `choices.split` is what is written.

    Args:
        content: the JSON, `transition_times.json` or `heldout_transition_times.json`.
        where: the file, for its lists and for errors.
        choices: of these, `split`, `window_s` and `step_s`.

    Raises:
        InputError: `content` is something else, or what stands for a video cannot be used.
        UsageError: the split has no list.
    """
    if not is_oops(content):
        raise InputError(f"{where}: no times of failures in it", 'it should be {VIDEO: {"t": [seconds, ...], "len": seconds}}')
    window, step = choices.window_s or WINDOW_S, choices.step_s or STEP_S
    found, splits = Annotations(), _splits(Path(where), choices.split)
    found.facts.append(f"clips of {window:g} s, {step:g} s apart; --window and --step say otherwise")
    if splits is None:
        found.facts.append("there are no lists of splits beside the file (train_filtered.txt, val_filtered.txt): all videos are taken")
    for video, entry in content.items():
        failure, length = _failure(where, video, entry)
        split = choices.split if splits is None else splits.get(video)
        if splits is not None and (split is None or choices.split not in (None, split)):
            found.left_out["videos of no chosen split"] += 1
        elif reason := _unusable(failure, length):
            found.left_out[reason] += 1
        else:
            _cut(found, video, failure, length, split, window, step)
    return found


def _splits(file: Path, chosen: str | None) -> dict[str, str] | None:
    """Video -> its split; None where nothing beside the file says it."""
    for ending in ("_filtered.txt", ".txt"):
        lists = {split: file.with_name(split + ending) for split in _SPLITS}
        there = {split: path for split, path in lists.items() if path.is_file()}
        if there and chosen not in (None, *there):
            raise UsageError(f"{file.parent} has no list of split '{chosen}'", f"splits there: {', '.join(there)}")
        if there:
            return {name: split for split, path in there.items() for name in _names(path)}
    return None


def _names(path: Path) -> list[str]:
    """The lines of a list; InputError where it cannot be read."""
    try:
        return [name for line in path.read_text(encoding="utf-8").split("\n") if (name := line.rstrip("\r"))]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of videos ({error})") from None


def _failure(where: str, video: str, entry: Any) -> tuple[float, float]:
    """(time of the failure, below 0 for none; length of the video), seconds."""
    try:
        return median_high(float(time) for time in entry["t"]), float(entry["len"])
    except (TypeError, ValueError, KeyError):
        raise InputError(f"{where}: what stands for the video '{video}' cannot be used", "times 't' and a length 'len'") from None


def _unusable(failure: float, length: float) -> str | None:
    """Why the public code does not use a video."""
    if failure < 0:
        return "videos in which most people saw no failure"
    if not SHORTEST_S <= length <= LONGEST_S:
        return f"videos that are not {SHORTEST_S:g} to {LONGEST_S:g} s long"
    if not MARGIN <= failure / length <= 1 - MARGIN:
        return "videos that fail at their very beginning or end"
    return None


def _cut(found: Annotations, video: str, failure: float, length: float, split: str | None, window: float, step: float) -> None:
    """The clips of a video."""
    for number in range(int((length - window) / step + 1e-6) + 1 if length >= window else 0):
        start = round(number * step, 6)
        end = round(start + window, 6)
        label = TRANSITIONAL if start <= failure < end else INTENTIONAL if failure >= end else UNINTENTIONAL
        found.add(video, (start, end), length, {"failure_s": f"{failure:g}"}, label=label, split=split)
