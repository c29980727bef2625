"""What the pages of all detectors have in common: which marks get pictures, and the order of the parts."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import files
from tasks.core.report import cards, timeline
from tasks.core.report.page import Page
from tasks.core.report.timeline import clock

MAX_PICTURED = 300
"""Marks shown with pictures; more would make a page of many megabytes."""


def highest(values: Sequence[float]) -> list[int]:
    """Numbers of the `MAX_PICTURED` highest values (the first of equal ones), in order."""
    return sorted(np.argsort(-np.asarray(values, dtype=np.float64), kind="stable")[:MAX_PICTURED].tolist())


def targets(noun: str, count: int, pictured: bool) -> list[str]:
    """Identities of what the marks of the timeline lead to: cards where there are pictures, else rows of the table."""
    return [f"{noun if pictured else 'row'}-{i + 1}" for i in range(count)]


def write_page(
    path: Path,
    record: Mapping[str, Any],
    nouns: tuple[str, str],
    count: int,
    drawing: str,
    why_none: str,
    pictures: tuple[str, str, int, str] | None,
    table: str,
    facts: Mapping[str, object],
) -> None:
    """Writes the page of one video; it appears whole or not at all, and asks for nothing outside itself.

    Args:
        record: as in the JSON file.
        nouns: singular and plural of what was found.
        count: how many there are.
        drawing: the timeline.
        why_none: what stands in place of a list without entries.
        table: all of them.
        pictures: heading, what those that are shown have (`the highest scores`), their number, cards; None: a page without.
        facts: of the video and the method; the settings follow them.
    """
    size = f"{record['width']}×{record['height']}"
    parts = (clock(record["duration_s"]), f"{record['n_frames']} frames", f"{record['fps']:.5g} fps", size, record["method"])
    page = Page(Path(record["video"]).name or record["video"], " · ".join((f"{count} {nouns[count != 1]}", *parts)))
    if record["damage"]:
        page.markup(f'<p class="warning" role="note">The video is damaged: {escape(record["damage"])}</p>')
    page.markup(drawing, timeline.STYLE + cards.STYLE)
    if not count:
        page.text(why_none)
    if pictures is not None:
        heading, having, shown, markup = pictures
        page.section(heading)
        if shown < count:
            page.text(f"Pictures of the {shown} {nouns[1]} with {having} out of {count}.")
        page.markup(markup)
    if count:
        page.section(f"All {nouns[1]}").markup(table)
    first = {"video": record["video"], "method": record["method"]}
    page.section("Details").facts({**first, **facts, **cards.told(record["settings"])})
    for note in record.get("notes", ()):
        page.text(f"{note[:1].upper()}{note[1:]}.")
    page.markup(timeline.script())
    files.write_text(path, page.html())
