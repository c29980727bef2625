"""A video with lanes below it, one for each kind of thing that happens: what happens when, to click on. Mouse, touch and keyboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

import numpy as np

from tasks.core.report.lanes_assets import SCRIPT, STYLE
from tasks.core.report.timeline import axis, clock, peaks

__all__ = ["STYLE", "Block", "Lane", "lanes", "script", "table"]

_WIDTH, _HEIGHT = 1000, 100  # of the coordinates of a curve; the page stretches it
_FAINTEST = 0.25
_HUES = 47  # degrees from one lane to the next


@dataclass(frozen=True)
class Block:
    """Something that happens.

    Attributes:
        start, end: seconds.
        score: in [0, 1].
    """

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Lane:
    """All that happens of one kind.

    Attributes:
        name: of the kind.
        blocks: in any order.
        t, value: (N,) seconds, increasing, and scores in [0, 1], drawn behind the blocks; N may be 0.
    """

    name: str
    blocks: Sequence[Block]
    t: np.ndarray
    value: np.ndarray


def numbered(lanes: Sequence[Lane]) -> list[tuple[int, Block]]:
    """(number of the lane, block) of all blocks in order of time: the i-th has number i on the page, from 1."""
    found = [(number, block) for number, lane in enumerate(lanes) for block in lane.blocks]
    return sorted(found, key=lambda pair: (pair[1].start, pair[1].end, pair[0]))


def lanes(
    lanes: Sequence[Lane], start: float, length: float, shown_from: float, source: str | None, zero: float = 0.0, noun: str = "event"
) -> str:
    """The player and the lanes as HTML; needs `STYLE`. Without JavaScript the blocks are links to their rows in the table.

    Args:
        lanes: from top to bottom.
        start, length: what is drawn, seconds.
        shown_from: blocks below this score are hidden until they are asked for.
        source: the video, relative to the page; None: there is nothing to play.
        zero: the time at which a player is at 0, seconds.
        noun: what a block is called; several of them with an s.
    """
    length, found = max(length, 1e-6), numbered(lanes)
    rows: list[list[str]] = [[] for _ in lanes]
    for i, (number, block) in enumerate(found, start=1):
        rows[number].append(_block(i, lanes[number].name, block, start, length, shown_from))
    drawn = "".join(_lane(number, lane, blocks, start, length) for number, (lane, blocks) in enumerate(zip(lanes, rows, strict=True)))
    return f"""<section id="stage" class="stage" aria-label="Video and {noun}s">
{_player(source)}
<div class="lanes-bar"><output id="now" aria-live="polite"></output>
<label class="least" hidden>score from <input id="least" type="range" min="0" max="1" step="0.01" value="{shown_from:g}">
<output id="least-value">{shown_from:.2f}</output></label>
<button id="previous" class="script" type="button" aria-label="previous {noun}" hidden>◀</button>
<button id="next" class="script" type="button" aria-label="next {noun}" hidden>▶</button></div>
<div id="lanes" class="lanes" data-start="{start!r}" data-length="{length!r}" data-zero="{zero!r}" data-noun="{noun}">
{drawn}
<div class="lanes-axis">{axis(start, length)}</div>
<div id="playhead" class="playhead" hidden></div>
</div>
<p class="lanes-keys script" hidden><kbd>←</kbd> <kbd>→</kbd> or <kbd>k</kbd> <kbd>j</kbd> previous, next {noun};
<kbd>space</kbd> play, pause;
<kbd>Home</kbd> <kbd>End</kbd> first, last; or click anywhere</p>
</section>"""


def table(lanes: Sequence[Lane], shown_from: float, noun: str = "event") -> str:
    """All blocks as a table in order of time; row i has the id `row-i`. `noun`: what the names of lanes are."""
    body = ""
    for i, (number, block) in enumerate(numbered(lanes), start=1):
        cells = (clock(block.start), clock(block.end), f"{block.end - block.start:.2f}", f"{block.score:.3f}")
        values = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        hidden = " hidden" if block.score < shown_from else ""
        name = f'<td><a href="#row-{i}">{escape(lanes[number].name)}</a></td>'
        body += f'<tr id="row-{i}" data-mark="{i}" data-score="{block.score:.4f}"{hidden}>{name}{values}</tr>'
    numbers = "".join(f'<th class="number" scope="col">{name}</th>' for name in ("start", "end", "length (s)", "score"))
    head = f'<th scope="col">{noun}</th>{numbers}'
    return f'<div class="scroll"><table class="events"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def script() -> str:
    """The element that makes the lanes answer; the page's last."""
    return f"<script>{SCRIPT}</script>"


def _player(source: str | None) -> str:
    if source is None:
        return ""
    address = escape(quote(source))
    return f"""<video id="player" src="{address}" controls playsinline preload="metadata"></video>
<p id="unplayable" class="warning" role="note" hidden>The browser cannot play <code>{escape(source)}</code> from here: it is not beside this
page, or of a format that browsers do not know. Everything else works.</p>"""


def _lane(number: int, lane: Lane, blocks: Sequence[str], start: float, length: float) -> str:
    colour = f"--hue:{number * _HUES % 360}"
    name = f'<span class="lane-name" title="{escape(lane.name)}">{escape(lane.name)}</span>'
    return f'<div class="lane" style="{colour}">{name}<div class="track">{_curve(lane, start, length)}{"".join(blocks)}</div></div>'


def _curve(lane: Lane, start: float, length: float) -> str:
    if not len(lane.t):
        return ""
    shown = peaks(lane.t, lane.value, start, length)
    xs = np.clip((lane.t[shown] - start) / length, 0, 1) * _WIDTH
    ys = (1 - np.clip(lane.value[shown].astype(np.float64), 0, 1)) * _HEIGHT
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    area = f"{xs[0]:.1f},{_HEIGHT} {points} {xs[-1]:.1f},{_HEIGHT}"
    about = f"score of {lane.name} over time"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(about)}">'
        f'<polygon points="{area}"/><polyline points="{points}"/></svg>'
    )


def _block(i: int, name: str, block: Block, start: float, length: float, shown_from: float) -> str:
    left, right = (100 * min(1.0, max(0.0, (t - start) / length)) for t in (block.start, block.end))
    strength = _FAINTEST + (1 - _FAINTEST) * min(1.0, max(0.0, block.score))
    text = f"{name} · {clock(block.start)} – {clock(block.end)} · score {block.score:.2f}"
    hidden = " hidden" if block.score < shown_from else ""
    return (
        f'<a class="block" href="#row-{i}" data-mark="{i}" data-from="{block.start:.4f}" data-score="{block.score:.4f}"'
        f' style="left:{left:.3f}%;width:{right - left:.3f}%;--strength:{strength:.2f}"'
        f' aria-label="{escape(text)}" title="{escape(text)}"{hidden}></a>'
    )
