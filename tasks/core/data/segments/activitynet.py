"""Annotations in the JSON of ActivityNet, `{"database": {video: {"subset", "duration", "annotations": [{"segment", "label"}]}}}`.

UnAV-100, THUMOS14 as ActionFormer has it and YouCook2 (`sentence` for `label`) are written in the same way.
"""

import re
from collections.abc import Mapping
from typing import Any

from tasks.core.data.segments.annotations import NO_SEGMENTS, Annotations, Choices
from tasks.core.errors import InputError, UsageError

_THUMOS = re.compile(r"video_(test|validation)_\d{7}")
AMBIGUOUS = "Ambiguous"
"""Label of THUMOS14 for segments of which the annotators could not tell whether they show an action."""


def is_activitynet(content: Any) -> bool:
    """Whether videos have lists of annotations."""
    videos = _videos(content)
    return any(isinstance(entry, Mapping) and isinstance(entry.get("annotations"), list) for entry in videos.values())


def is_thumos14(content: Any) -> bool:
    """Whether it is `is_activitynet` with the videos of THUMOS14."""
    return is_activitynet(content) and all(_THUMOS.fullmatch(video) for video in _videos(content))


def read_activitynet(content: Any, where: str, choices: Choices) -> Annotations:
    """Segments with their labels; columns `duration` and `fps` of the video and `label_id` where the file has them.

    A subset is kept as it is called. A segment that has only a `label_id` has it as its label.

    Args:
        content: the JSON.
        where: the file, for errors.
        choices: of these, `split`.

    Raises:
        InputError: `content` is something else, or what stands for a video cannot be used.
        UsageError: the subset does not occur.
    """
    if not is_activitynet(content):
        raise InputError(f"{where}: no videos with annotations in it", 'it should be {"database": {VIDEO: {"annotations": [...]}}}')
    found, subsets = Annotations(), set()
    for video, entry in _videos(content).items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("annotations") or [], list):
            raise InputError(f"{where}: what stands for the video '{video}' cannot be used", "an object with 'annotations' was expected")
        subset = entry.get("subset")
        subsets.add(subset)
        if choices.split is not None and subset != choices.split:
            continue
        found.left_out[NO_SEGMENTS] += not entry.get("annotations")
        for item in entry.get("annotations") or []:
            _add(found, video, entry, item if isinstance(item, Mapping) else {})
    named = sorted(str(subset) for subset in subsets if subset)
    if choices.split is not None and choices.split not in subsets:
        raise UsageError(f"{where}: no videos of subset '{choices.split}'", f"subsets there: {', '.join(named) or 'none'}")
    _compare_ids(found)
    return found


def read_thumos14(content: Any, where: str, choices: Choices) -> Annotations:
    """As `read_activitynet`, without the segments that are labelled AMBIGUOUS: they are not a class."""
    found = read_activitynet(content, where, choices)
    clear = [row for row in found.rows if row.label != AMBIGUOUS]
    if len(clear) < len(found.rows):
        found.left_out[f"labelled '{AMBIGUOUS}', which is not a class"] += len(found.rows) - len(clear)
        found.rows = clear
    subsets = {row.split for row in clear}
    if any(subset and subset.lower() == "validation" for subset in subsets):
        found.facts.append("THUMOS14 is trained on its validation videos: choose them with FILE@Validation")
    return found


def _videos(content: Any) -> Mapping[str, Any]:
    content = content.get("database", content) if isinstance(content, Mapping) else {}
    return content if isinstance(content, Mapping) else {}


def _add(found: Annotations, video: str, entry: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    label, number, sentence = (item.get(name) for name in ("label", "label_id", "sentence"))
    if label is None and number is not None:
        label = number
        found.noted["have only a label_id, which is their label"] += 1
    found.noted["have no subset"] += entry.get("subset") is None
    found.add(
        video,
        item.get("segment"),
        entry.get("duration"),
        {"fps": entry.get("fps"), "label_id": number},
        label=None if label is None else str(label),
        split=None if entry.get("subset") is None else str(entry["subset"]),
        text=sentence if isinstance(sentence, str) else None,
    )


def _compare_ids(found: Annotations) -> None:
    """Says where labels and label_ids do not go together; the labels count."""
    ids: dict[str, set[str]] = {}
    labels: dict[str, set[str]] = {}
    for row in found.rows:
        if row.label is not None and "label_id" in row.extra:
            ids.setdefault(row.label, set()).add(row.extra["label_id"])
            labels.setdefault(row.extra["label_id"], set()).add(row.label)
    for kind, pairs in (("label", ids), ("label_id", labels)):
        for name, others in pairs.items():
            if len(others) > 1:
                found.facts.append(f"the {kind} '{name}' goes with several: {', '.join(sorted(others))}; the labels count")
