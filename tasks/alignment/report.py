"""The page of one video: a player with a lane for each sentence, the similarities as a picture, old and new times."""

import io
import os
from html import escape
from pathlib import Path

import numpy as np

from tasks.alignment.result import Alignment
from tasks.core import files
from tasks.core.report import cards, lanes
from tasks.core.report.lanes import Block, Lane
from tasks.core.report.outputs import readable, relative
from tasks.core.report.page import Page
from tasks.core.report.timeline import clock

MOST_LANES = 60
"""More would be a page that nobody reads; the table has all sentences."""
ROW_PX, WIDEST_PX, MOST_ROWS = 10, 1600, 400
_OLD, _NEW = (240, 140, 20), (40, 200, 90)


def write_report(path: Path, found: Alignment) -> None:
    """Writes the page; it appears whole or not at all. It asks for nothing outside itself but the video, by its path from the page.

    Raises:
        OSError: the disk is full or closed.
    """
    name = Path(readable(found.path)).name or readable(found.path)
    count = sum(each.alignable for each in found.sentences)
    page = Page(name, f"{count} of {len(found.sentences)} sentences belong to the video · {clock(found.duration_s)} · {found.method}")
    for note in ([f"The video is damaged: {found.damage}"] if found.damage else []) + found.notes:
        page.markup(f'<p class="warning" role="note">{escape(note[:1].upper() + note[1:])}.</p>')
    drawn = _lanes(found)
    source = None if os.path.isdir(found.file) else relative(found.file, path)
    page.markup(lanes.lanes(drawn, found.start_s, found.duration_s, 0.0, source, found.file_start_s, "sentence"), lanes.STYLE)
    if len(found.sentences) > len(drawn):
        page.text(f"The first {len(drawn)} sentences have lanes; the table has all.")
    if found.similarity is not None:
        caption = "Similarity of sentences (rows) and time (columns), the brighter the more; orange: times of the file, green: new times"
        page.section("Similarity").figure(picture(found), caption)
    elif found.shift is not None:
        page.section("Shift").facts(found.shift)
    rows = [
        (number, each.text, *_clocks(each.given), *_clocks((each.start, each.end)), round(each.score, 3), "yes" if each.alignable else "no")
        for number, each in enumerate(found.sentences, 1)
    ]
    header = ("", "sentence", "old start", "old end", "start", "end", "score", "belongs")
    page.section("All sentences").table(header, rows, marked=[n for n, each in enumerate(found.sentences) if not each.alignable])
    facts = {"video": readable(found.path), "text": readable(str(found.script.path)), "method": found.method, **cards.told(found.settings)}
    page.section("Details").facts(facts).markup(lanes.script())
    files.write_text(path, page.html())


def _lanes(found: Alignment) -> list[Lane]:
    times = np.zeros(0) if found.grid is None else found.grid.centers(found.similarity.shape[1])
    made = []
    for number, each in enumerate(found.sentences[:MOST_LANES]):
        blocks = [Block(each.start, each.end, each.score)] if each.alignable else []
        curve = np.zeros(0) if found.similarity is None else np.clip(np.nan_to_num(found.similarity[number]), 0, 1)
        made.append(Lane(each.text, blocks, times, curve))
    return made


def picture(found: Alignment) -> bytes:
    """PNG of the similarities, a band for each sentence, with old and new times as frames."""
    from PIL import Image, ImageDraw

    values = np.nan_to_num(found.similarity[:MOST_ROWS], nan=-1.0)
    low, high = np.percentile(values, (5, 99.8))
    grey = np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    width = min(WIDEST_PX, max(600, grey.shape[1] * 2))
    image = Image.fromarray(grey).resize((width, len(grey) * ROW_PX), Image.Resampling.NEAREST).convert("RGB")
    draw, grid = ImageDraw.Draw(image), found.grid
    first = grid.centers(1)[0] - grid.stride_s / 2
    scale = width / (grid.stride_s * grey.shape[1])
    for row, each in enumerate(found.sentences[:MOST_ROWS]):
        spans = [(each.given, _OLD)] if each.given is not None else []
        spans += [((each.start, each.end), _NEW)] if each.alignable else []
        for (start, end), colour in spans:
            left, right = ((t - first) * scale for t in (start, end))
            draw.rectangle((left, row * ROW_PX, max(left + 2, right), (row + 1) * ROW_PX - 1), outline=colour)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _clocks(span: tuple[float, float] | None) -> tuple[str, str]:
    return ("–", "–") if span is None else (clock(span[0]), clock(span[1]))
