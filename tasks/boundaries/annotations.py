"""Annotated boundaries: the truth format, and importers of what Kinetics-GEBD and TAPOS publish.

The truth format is `{video: {"video_duration", "fps", "num_frames", "f1_consis", "f1_consis_avg", "substages_timestamps"}}`: seconds from
the start of the video, one list per annotator; `path` (relative to the folder of the file) and `path_video` where they are known.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.boundaries.changes import changes
from tasks.core.data.videos import VideoFiles, video_names
from tasks.core.errors import InputError, UsageError
from tasks.core.metrics.boundaries import VideoTruth
from tasks.core.pickles import read_pickle
from tasks.core.strict_json import parse_json

FORMATS = ("auto", "gebd", "gebd-raw", "tapos")
MIN_ANNOTATORS = 3
_FIELDS = ("fps", "video_duration", "num_frames", "f1_consis", "f1_consis_avg", "substages_timestamps", "path", "path_video")
_RAW = "an annotator's marks are objects with start_time, end_time and label; f1_consis has a number for each annotator"


@dataclass
class Imported:
    """Annotations in the truth format.

    Attributes:
        truth: video -> entry.
        format: what the file was.
        left_out: reason -> number of videos or instances.
    """

    truth: dict[str, dict[str, Any]]
    format: str
    left_out: Counter[str] = field(default_factory=Counter)


def import_annotations(
    path: str | Path, kind: str = "auto", split: str | None = None, rules: Literal["public", "written"] = "public"
) -> Imported:
    """Reads an official annotation file.

    Args:
        path: `k400_mr345_*.pkl` (gebd), `k400_*_raw_annotation.pkl` (gebd-raw), `tapos_annotation.json` or the
            `tapos_annotation_timestamps_myfps.json` of the GEBD authors (tapos), or JSON in the truth format (gebd).
        kind: one of FORMATS.
        split: subset of a TAPOS file, by default `val`; the other files hold one split each.
        rules: of gebd-raw, see `changes`.

    Raises:
        UsageError: unknown format or split; a pickle that asks for more than data.
        InputError: the file cannot be read or used.
    """
    path = Path(path)
    content = load(path)
    if not isinstance(content, Mapping) or not content or not all(isinstance(entry, Mapping) for entry in content.values()):
        raise InputError(f"{path}: no annotations: an object with one object per video was expected")
    kind = recognise(content) if kind == "auto" else kind
    if kind is None:
        raise InputError(f"{path}: the format of these annotations is not known", f"known formats: {', '.join(FORMATS[1:])}")
    if kind not in FORMATS:
        raise UsageError(f"unknown format '{kind}'", f"known: {', '.join(FORMATS)}")
    if kind == "tapos":
        return _from_tapos(content, split or "val", path)
    if split:
        raise UsageError(f"{path} holds one split: --split {split} does not apply to format {kind}")
    if kind == "gebd-raw":
        return _from_raw(content, rules)
    return Imported({str(video): _processed(str(video), entry) for video, entry in content.items()}, kind)


def load(path: str | Path) -> Any:
    """The content of a JSON file or, through `read_pickle`, of a pickle."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if data[:1] == b"\x80" or path.suffix.lower() in (".pkl", ".pickle"):
        return read_pickle(data, path)
    return parse_json(data, str(path))


def recognise(content: Any) -> str | None:
    """The name of the format of a file's content, told by the fields of its entries; None where it is none of these."""
    listed = False
    for entry in content.values() if isinstance(content, Mapping) else ():
        if not isinstance(entry, Mapping):
            return None
        if "substages_timestamps" in entry:
            raters = entry["substages_timestamps"] if isinstance(entry["substages_timestamps"], list | tuple) else ()
            if any(isinstance(item, Mapping) for rater in raters if isinstance(rater, list | tuple) for item in rater):
                return "gebd-raw"
            listed = True
        elif "substages_myframeidx" in entry:
            return "gebd"
        elif any(isinstance(item, Mapping) and "substages" in item for item in entry.values()):
            return "tapos"
    return "gebd" if listed else None


def _processed(video: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `k400_mr345_*.pkl` or of the truth format, checked. Early releases have frames only: time = frame / fps."""
    known = {key: entry[key] for key in _FIELDS if key in entry}
    if "substages_timestamps" not in known and "substages_myframeidx" in entry:
        try:
            known["substages_timestamps"] = [[frame / entry["fps"] for frame in rater] for rater in entry["substages_myframeidx"]]
        except (TypeError, KeyError, ZeroDivisionError):
            raise InputError(f"annotation of '{video}': fps and lists of frames were expected") from None
    VideoTruth.from_entry(video, known)
    return known


def _from_raw(content: Mapping[str, Any], rules: str) -> Imported:
    """Kinetics-GEBD as annotated: videos with at least 3 annotators, each one's changes merged by `changes`."""
    result = Imported({}, "gebd-raw")
    for video, entry in content.items():
        raters = entry.get("substages_timestamps", [])
        if not isinstance(raters, list | tuple):
            raise InputError(f"annotation of '{video}': substages_timestamps must hold one list of marks per annotator", _RAW)
        if len(raters) < MIN_ANNOTATORS:
            result.left_out[f"fewer than {MIN_ANNOTATORS} annotators"] += 1
            continue
        absent = [key for key in ("fps", "num_frames", "video_duration", "f1_consis_avg") if entry.get(key) is None]
        if absent:
            result.left_out[f"no {absent[0]}"] += 1
            continue
        known = {key: entry[key] for key in _FIELDS if key in entry}
        try:
            known["substages_timestamps"] = [changes(rater, entry["video_duration"], rules) for rater in raters]
            known["num_frames"] = int(entry["num_frames"])
            known["f1_consis"] = [entry["f1_consis"][i] for i in range(len(raters))]
        except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
            raise InputError(f"annotation of '{video}' cannot be used: {type(error).__name__}: {error}", _RAW) from None
        VideoTruth.from_entry(str(video), known)
        result.truth[str(video)] = known
    return result


def _from_tapos(content: Mapping[str, Any], split: str, path: Path) -> Imported:
    """One entry per instance of `split`, named video_instance; an instance without a boundary inside says nothing and is left out."""
    result, splits = Imported({}, "tapos"), set()
    for video, instances in content.items():
        for name, item in instances.items():
            try:
                splits.add(item["subset"])
                if item["subset"] != split:
                    continue
                if len(item["substages"]) <= 2:
                    result.left_out["no boundary inside"] += 1
                    continue
                result.truth[f"{video}_{name}"] = _instance(name, item)
            except (TypeError, KeyError, ValueError, AttributeError, ZeroDivisionError) as error:
                raise InputError(f"{path}: instance {name} of {video} cannot be used: {type(error).__name__}: {error}") from None
    if not result.truth:
        raise UsageError(f"{path}: no instances of split '{split}'", f"it has: {', '.join(sorted(splits))}")
    return result


def _instance(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Times of an instance of TAPOS from its start.

    The GEBD authors' file has frames of their own (`substages_myframeidx`, `myfps`), which their evaluation counts in. The original has
    frames of the instance (`substages`, `total_frames`); its duration is in its name, s00002_79_481_81_895 = 79.481 s to 81.895 s.
    """
    if "substages_myframeidx" in item:
        first, *inside, last = item["substages_myframeidx"]
        n_frames, fps = last - first + 1, float(item["myfps"])
        duration, frames = n_frames / fps, [frame - first for frame in inside]
    else:
        whole, part, end_whole, end_part = re.fullmatch(r".*?_(\d+)_(\d+)_(\d+)_(\d+)", name).groups()
        duration = float(f"{end_whole}.{end_part}") - float(f"{whole}.{part}")
        n_frames = int(item["total_frames"])
        fps, frames = n_frames / duration, item["substages"][1:-1]
    return {
        "fps": fps,
        "video_duration": duration,
        "num_frames": n_frames,
        "f1_consis": [1.0],
        "f1_consis_avg": 1.0,
        "substages_timestamps": [[frame / fps for frame in frames]],
    }


def add_paths(truth: dict[str, dict[str, Any]], folder: str | Path) -> list[str]:
    """Sets `path` (absolute) of every entry whose video lies below `folder`, and removes that of the others, which it returns.

    A video is found by the name of its file in the annotation (`path_video`, `path`), else by its id.

    Raises:
        InputError: two videos of the folder could be meant.
    """
    files, missing = VideoFiles(folder, trimmed=True), []
    for video, entry in truth.items():
        wanted = [video_names(entry[key])[0] for key in ("path_video", "path") if isinstance(entry.get(key), str)]
        if found := files.find(*wanted, video):
            entry["path"] = found
        else:
            entry.pop("path", None)
            missing.append(video)
    return missing


def place(truth: dict[str, dict[str, Any]], folder: str | Path, relative: bool = False) -> None:
    """Makes every `path` that is relative to `folder` absolute; `relative`: every one below `folder` relative to it."""
    top = os.path.abspath(folder)
    for entry in truth.values():
        if not entry.get("path"):
            continue
        if relative:
            entry["path"] = entry["path"].removeprefix(top + os.sep)
        else:
            entry["path"] = os.path.join(top, entry["path"])
