"""Annotations of HTM-Align: sentences of narrated videos, `{video: [[flag, start_s, end_s, text], ...]}`."""

from collections.abc import Mapping
from typing import Any

from tasks.core.data.segments.annotations import NO_SEGMENTS, Annotations, Choices
from tasks.core.errors import InputError

ALIGNABLE = "alignable"
"""Column: 1 where the sentence is seen in the video and has the times at which it is, 0 where it has those of the narration."""


def is_htm_align(content: Any) -> bool:
    """Whether every video has a list of flag, start, end and text."""
    if not isinstance(content, Mapping) or not content:
        return False
    lists = [_sentences(entry) for entry in content.values()]
    return all(isinstance(each, list) for each in lists) and any(_is_sentence(item) for each in lists for item in each[:1])


def read_htm_align(content: Any, where: str, choices: Choices) -> Annotations:
    """Sentences with their times as texts, and the column ALIGNABLE; in the order of the file, which is that of the narration.

    An object with the list as `sentences` (and perhaps `duration`) may stand for a video.

    Args:
        content: the JSON.
        where: the file, for errors.
        choices: of these, `split`: what is written.

    Raises:
        InputError: `content` is something else.
    """
    if not is_htm_align(content):
        raise InputError(f"{where}: no lists of [flag, start, end, text] in it")
    found = Annotations()
    if choices.split is not None:
        found.facts.append(f"the file names no subsets: all of it is of split '{choices.split}' now")
    for video, entry in content.items():
        duration = entry.get("duration") if isinstance(entry, Mapping) else None
        found.left_out[NO_SEGMENTS] += not _sentences(entry)
        for item in _sentences(entry):
            if not _is_sentence(item):
                found.left_out["not a list of flag, start, end and text"] += 1
                continue
            flag, start, end, text = item
            found.add(video, (start, end), duration, {ALIGNABLE: int(flag)}, split=choices.split, text=text.strip())
    return found


def _sentences(entry: Any) -> Any:
    return entry.get("sentences") if isinstance(entry, Mapping) else entry


def _is_sentence(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 4 and item[0] in (0, 1) and isinstance(item[3], str)
