"""The page of one classified video: a player, a lane for each of its most probable classes, a table."""

import os
from html import escape
from pathlib import Path

import numpy as np

from tasks.classify.labelling import Labelling
from tasks.core import files
from tasks.core.inference.detector import Footage
from tasks.core.report import cards, lanes
from tasks.core.report.films import film
from tasks.core.report.lanes import Block, Lane
from tasks.core.report.outputs import readable, relative
from tasks.core.report.page import Page
from tasks.core.report.timeline import clock

FRAMES, SIDE_PX = 8, 96


def write_report(path: Path, labelling: Labelling, opened: Footage) -> None:
    """Writes the page; it appears whole or not at all. It asks for nothing outside itself but the video, by its path from the page.

    Raises:
        OSError: the disk is full or closed.
    """
    best, score = labelling.named(labelling.probabilities)[0]
    size = f"{labelling.width}×{labelling.height}"
    parts = (clock(labelling.duration_s), f"{labelling.n_frames} frames", f"{labelling.fps:.5g} fps", size, labelling.method)
    name = Path(readable(labelling.path)).name or readable(labelling.path)
    page = Page(name, " · ".join((f"{best} ({score:.2f})", *parts)))
    if labelling.damage:
        page.markup(f'<p class="warning" role="note">The video is damaged: {escape(labelling.damage)}.</p>')
    source = None if os.path.isdir(labelling.file) else relative(labelling.file, path)
    drawing = lanes.lanes(lanes_of(labelling), labelling.start_s, labelling.duration_s, 0.0, source, labelling.file_start_s, "part")
    page.markup(drawing, lanes.STYLE)
    picture = cards.jpeg_uri(film(opened.reader, opened.start, opened.stop, FRAMES, SIDE_PX), FRAMES * SIDE_PX)
    alt = f"{FRAMES} frames that are spread over the video"
    page.markup(f'<figure><img src="{picture}" alt="{alt}"><figcaption>{alt}, their middle squares</figcaption></figure>')
    page.section("Over the whole video")
    page.table(["class", "probability"], [[label, value] for label, value in labelling.named(labelling.probabilities)])
    if len(labelling.windows):
        page.text("Each window by itself names the class that it shows; a part is a run of windows that name the same.")
        page.section("All parts").markup(lanes.table(lanes_of(labelling), 0.0, "class"))
    facts = {"video": readable(labelling.path), "model": labelling.method, "windows x squares": labelling.views}
    page.section("Details").facts({**facts, **cards.told(labelling.settings)}).markup(lanes.script())
    files.write_text(path, page.html())


def lanes_of(labelling: Labelling) -> list[Lane]:
    """A lane for each class that is named for the whole video or a part of it, the most probable first: its parts and, window by window,
    its probability; of a video that was not seen window by window, one block from its start to its end.
    """
    whole = dict(labelling.named(labelling.probabilities))
    if not len(labelling.windows):
        end = labelling.start_s + labelling.duration_s
        return [Lane(name, [Block(labelling.start_s, end, score)], np.zeros(0), np.zeros(0)) for name, score in whole.items()]
    numbers = {name: number for number, name in enumerate(labelling.labels)}
    parts = labelling.parts
    named = sorted({*whole, *(part.label for part in parts)}, key=lambda name: -float(labelling.probabilities[numbers[name]]))
    middles = labelling.times.mean(1)
    return [
        Lane(
            name,
            [Block(part.start, part.end, part.score) for part in parts if part.label == name],
            middles,
            labelling.windows[:, numbers[name]],
        )
        for name in named
    ]
