"""Annotations of EPIC-KITCHENS-100: a CSV with one narrated action in each line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.data.segments.annotations import Annotations, Choices
from tasks.core.errors import InputError

_NEEDED = ("video_id", "start_timestamp", "stop_timestamp")
_KEPT = ("narration_id", "participant_id", "verb", "verb_class", "noun", "noun_class")
_SPLIT = re.compile(r"(?<![a-z])(train|validation|test)(?![a-z])")
LABELS = {"verb": ("verb_class",), "noun": ("noun_class",), "action": ("verb_class", "noun_class")}
"""What may be the label: columns whose numbers make it."""


def is_epic(content: Any) -> bool:
    """Whether a table has the columns of EPIC-KITCHENS-100."""
    return isinstance(content, list) and bool(content) and set(_NEEDED) <= set(content[0])


def read_epic(content: Sequence[Mapping[str, str]], where: str, choices: Choices) -> Annotations:
    """Actions with the number of their class as label, since several words (turn-on, switch-on) are one class.

    Labels are those of `choices.label`, by default the verb; of an action `VERB-NOUN`. The narration is the text; words and numbers of verb
    and noun are further columns. The split is `choices.split`, else what the name of the file says.

    Args:
        content: rows of the table.
        where: the file, for errors and for the split.
        choices: of these, both.

    Raises:
        InputError: columns are missing.
    """
    if not is_epic(content):
        raise InputError(f"{where}: not a table of EPIC-KITCHENS-100", f"its columns are {', '.join(_NEEDED)} and others")
    found, wanted = Annotations(), LABELS[choices.label or "verb"]
    named = _SPLIT.search(Path(where).name.lower())
    split = choices.split or (named[1] if named else None)
    if split and choices.split is None:
        found.facts.append(f"split '{split}' is what the name of the file says; --split NAME says otherwise")
    if choices.label is None:
        found.facts.append("labels are numbers of verbs (verb_class); --label noun or --label action choose others")
    for row in content:
        numbers = [(row.get(name) or "").strip() for name in wanted]
        found.add(
            (row["video_id"] or "").strip(),
            (row["start_timestamp"], row["stop_timestamp"]),
            extra={name: (row.get(name) or "").strip() or None for name in _KEPT},
            label="-".join(numbers) if all(numbers) else None,
            split=split,
            text=(row.get("narration") or "").strip(),
        )
    return found
