"""The page of one video: a player, a lane for each class with its events and its scores over time, a table."""

import os
from html import escape
from pathlib import Path

import numpy as np

from tasks.core import files
from tasks.core.report import cards, lanes
from tasks.core.report.events import EventDetection
from tasks.core.report.lanes import Block, Lane
from tasks.core.report.outputs import readable, relative
from tasks.core.report.page import Page
from tasks.core.report.timeline import clock

MOST_LANES = 60
"""More would be a page that nobody reads."""


def write_report(path: Path, detection: EventDetection) -> None:
    """Writes the page; it appears whole or not at all. It asks for nothing outside itself but the video, by its path from the page.

    Raises:
        OSError: the disk is full or closed.
    """
    drawn, left_out = lanes_of(detection)
    count = len(detection.shown)
    size = f"{detection.width}×{detection.height}"
    parts = (clock(detection.duration_s), f"{detection.n_frames} frames", f"{detection.fps:.5g} fps", size, detection.method)
    name = Path(readable(detection.path)).name or readable(detection.path)
    page = Page(name, " · ".join((f"{count} event{'' if count == 1 else 's'}", *parts)))
    for note in ([f"The video is damaged: {detection.damage}"] if detection.damage else []) + detection.notes:
        page.markup(f'<p class="warning" role="note">{escape(note[:1].upper() + note[1:])}.</p>')
    source = None if os.path.isdir(detection.file) else relative(detection.file, path)
    drawing = lanes.lanes(drawn, detection.start_s, detection.duration_s, detection.shown_from, source, detection.file_start_s)
    page.markup(drawing, lanes.STYLE)
    if not detection.events:
        page.text(f"There are no events. The highest score is {float(detection.curves.score.max(initial=0)):.2f}.")
    if left_out:
        page.text(f"Without lanes: {', '.join(left_out)}.")
    if detection.events:
        page.section("All events").markup(lanes.table(drawn, detection.shown_from))
    sound = {} if detection.has_sound is None else {"sound": "yes" if detection.has_sound else "none"}
    facts = {"video": readable(detection.path), "method": detection.method, **sound, **cards.told(detection.settings)}
    page.section("Details").facts(facts).markup(lanes.script())
    files.write_text(path, page.html())


def lanes_of(detection: EventDetection) -> tuple[list[Lane], list[str]]:
    """The lanes, those with the best events first, and the names of the classes that have none.

    A class without an event gets a lane where there are few classes: its curve is worth seeing.
    """
    best: dict[str, float] = {}
    for event in detection.events:
        best[event.label] = max(event.score, best.get(event.label, 0.0))
    curves = dict(zip(detection.curves.labels, detection.curves.score.T, strict=True))
    ordered = sorted(best, key=lambda label: -best[label])
    quiet = sorted((label for label in curves if label not in best), key=lambda label: -float(curves[label].max(initial=0)))
    names = (ordered + quiet)[:MOST_LANES] if len(curves) <= MOST_LANES else ordered[:MOST_LANES]
    found = []
    for name in names:
        blocks = [Block(event.start, event.end, event.score) for event in detection.events if event.label == name]
        curve = curves.get(name)
        found.append(
            Lane(name or "event", blocks, detection.curves.t if curve is not None else np.zeros(0), np.zeros(0) if curve is None else curve)
        )
    return found, [label for label in ordered + quiet if label not in names]
