"""The timeline of a report: curves of scores, a threshold, markers or shaded intervals; mouse, touch and keyboard."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from tasks.core.report.timeline_assets import SCRIPT, STYLE

__all__ = ["STYLE", "Curve", "Mark", "axis", "clock", "peaks", "script", "timeline"]

_WIDTH, _HEIGHT = 1000, 100  # of the drawing's coordinates; the page stretches it
_MANY = 100  # marks, from here on markers are thin and without heads
_COLOURS = 4  # of curves beside the first, then they repeat
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


@dataclass(frozen=True)
class Curve:
    """One line of the timeline; the first of several is the main one, the others can be switched on and off.

    Attributes:
        name: in the legend.
        t: (N,) seconds, increasing.
        value: (N,).
        low, high: values at the bottom and the top of the drawing.
    """

    name: str
    t: np.ndarray
    value: np.ndarray
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Mark:
    """A place on the timeline, or a stretch of it.

    Attributes:
        t: seconds.
        name: what it says when it is chosen.
        target: id of the element to show then.
        end: seconds; None: a place.
    """

    t: float
    name: str
    target: str
    end: float | None = None


def clock(seconds: float) -> str:
    """Seconds as `m:ss.mmm` or `h:mm:ss.mmm`."""
    ms = round(abs(seconds) * 1000)
    minutes, rest = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{'-' if seconds < 0 else ''}{front}:{rest:02d}.{ms % 1000:03d}"


def peaks(t: np.ndarray, value: np.ndarray, start: float, length: float, buckets: int = _WIDTH) -> np.ndarray:
    """The scores that a drawing of `buckets` columns can show: the highest of each column, so that no peak is lost.

    Args:
        t, value: (N,) seconds and scores.
        start, length: the stretch of time that is drawn, seconds.

    Returns:
        (n,) int64 positions, increasing; n <= buckets, and all of them where there are no more than `buckets`.
    """
    if len(t) <= buckets:
        return np.arange(len(t))
    column = np.clip((t - start) / length * buckets, 0, buckets - 1).astype(np.int64)
    firsts = np.flatnonzero(np.diff(column, prepend=-1))
    lasts = np.append(firsts[1:], len(t))
    return np.array([first + np.argmax(value[first:last]) for first, last in zip(firsts, lasts, strict=True)])


def timeline(
    curves: Sequence[Curve], marks: Sequence[Mark], start: float, length: float, threshold: float | None, nouns: tuple[str, str]
) -> str:
    """The timeline as HTML; needs `STYLE`. Without JavaScript the marks are links to what they mark and all curves are shown.

    Elements of the page that carry `data-mark="N"` (N from 1) are chosen together with mark N, by a click on either.

    Args:
        curves: at least one.
        start, length: what is drawn, seconds.
        threshold: on the first curve's scale; not drawn outside it.
        nouns: what a mark is, one and several of them.
    """
    length = max(length, 1e-6)
    main = curves[0]
    level = None if threshold is None else (threshold - main.low) / (main.high - main.low)
    shown = threshold if level is not None and 0 <= level <= 1 else None
    count = f"{len(marks)} {nouns[0] if len(marks) == 1 else nouns[1]}"
    return f"""<section id="panel" class="panel" aria-label="Timeline">
<div class="bar"><output id="now" aria-live="polite">{escape(count)}</output>
<button id="previous" class="moves" type="button" aria-label="previous {nouns[0]}" hidden>◀</button>
<button id="next" class="moves" type="button" aria-label="next {nouns[0]}" hidden>▶</button></div>
<div id="plot" class="plot{" many" if len(marks) > _MANY else ""}" data-start="{start!r}" data-length="{length!r}">
{_drawing(curves, start, length, shown)}
<nav aria-label="{nouns[1]} on the timeline">{"".join(_mark(mark, start, length) for mark in marks)}</nav>
<div id="cursor" class="cursor" hidden><span></span></div>
</div>
{axis(start, length)}
{_legend(curves, shown, nouns[0], any(mark.end is not None for mark in marks))}
</section>"""


def script() -> str:
    """The element that makes the timeline answer; the page's last."""
    return f"<script>{SCRIPT}</script>"


def _mark(mark: Mark, start: float, length: float) -> str:
    def share(t: float) -> float:
        return 100 * min(1.0, max(0.0, (t - start) / length))

    left = share(mark.t)
    kind, width = ("marker", "") if mark.end is None else ("marker span", f";width:{share(mark.end) - left:.4f}%")
    name = escape(mark.name)
    return f'<a class="{kind}" style="left:{left:.4f}%{width}" href="#{escape(mark.target)}" aria-label="{name}"></a>'


def _drawing(curves: Sequence[Curve], start: float, length: float, threshold: float | None) -> str:
    """The drawing stretches with the page; its labels stand beside it, so that letters do not."""
    main = curves[0]
    about = f"{main.name} over time, {clock(start)} to {clock(start + length)}"
    lines = [_level("rule", 0.0), _level("rule", 1.0)]
    for number, curve in reversed(list(enumerate(curves))):  # the main one on top
        lines += _curve(number, curve, start, length)
    levels = {0.0: main.low, 1.0: main.high}
    if threshold is not None:
        level = (threshold - main.low) / (main.high - main.low)
        lines.append(_level("threshold", level))
        if 0.1 <= level <= 0.9:  # else it would stand on the lowest or the highest
            levels[level] = threshold
        about += f", threshold {threshold:g}"
    labels = "".join(f'<span class="label level" style="top:{100 - 100 * at:g}%">{value:.2g}</span>' for at, value in levels.items())
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none"'
    return f'<svg {box} role="img" aria-label="{escape(about)}">{"".join(lines)}</svg>\n{labels}'


def _level(kind: str, level: float) -> str:
    y = _HEIGHT * (1 - level)
    return f'<line class="{kind}" x1="0" x2="{_WIDTH}" y1="{y:g}" y2="{y:g}"/>'


def _curve(number: int, curve: Curve, start: float, length: float) -> list[str]:
    if not len(curve.t):
        return []
    shown = peaks(curve.t, curve.value, start, length)
    xs = np.clip((curve.t[shown] - start) / length, 0, 1) * _WIDTH
    level = (curve.value[shown].astype(np.float64) - curve.low) / (curve.high - curve.low)
    ys = (1 - np.clip(level, 0, 1)) * _HEIGHT
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in zip(xs, ys, strict=True))
    data = f'data-curve="{number}" data-name="{escape(curve.name)}" data-low="{curve.low!r}" data-high="{curve.high!r}"'
    if number:
        return [f'<polyline class="curve part" style="{_colour(number)}" {data} points="{points}"/>']
    area = f"{xs[0]:.2f},{_HEIGHT} {points} {xs[-1]:.2f},{_HEIGHT}"
    return [f'<polygon class="area" points="{area}"/>', f'<polyline class="curve" {data} points="{points}"/>']


def _colour(number: int) -> str:
    return f"--colour:var(--part-{(number - 1) % _COLOURS + 1})"


def axis(start: float, length: float) -> str:
    """The line of times below a drawing of `length` seconds from `start` on: at most seven round ones."""
    step = next((step for step in _STEPS_S if length / step <= 7), length)
    labels = []
    for i in range(math.ceil(start / step), math.floor((start + length) / step) + 1):
        share = (i * step - start) / length
        end = " first" if share < 0.04 else " last" if share > 0.96 else ""  # would reach beyond the page
        labels.append(f'<span class="label{end}" style="left:{100 * share:.3f}%">{_short(i * step)}</span>')
    return f'<div class="axis" aria-hidden="true">{"".join(labels)}</div>'


def _short(seconds: float) -> str:
    text = clock(seconds)
    return text[:-4] if text.endswith(".000") else text[:-2]


def _legend(curves: Sequence[Curve], threshold: float | None, noun: str, spans: bool) -> str:
    main = curves[0]
    limit = f'<span><i class="dashed"></i>threshold {threshold:g}</span>' if threshold is not None else ""
    keys = "; <kbd>1</kbd> … show, hide" if len(curves) > 1 else ""
    switches = ""
    for number, curve in enumerate(curves[1:], start=1):
        scale = "" if (curve.low, curve.high) == (main.low, main.high) else f" ({curve.low:.2g} to {curve.high:.2g})"
        box = f'<input class="script" type="checkbox" data-shows="{number}" checked hidden>'
        switches += f'<label style="{_colour(number)}">{box}<i class="part-key"></i>{escape(curve.name)}{scale}</label>'
    mark = f'<span><i class="{"shade" if spans else "head"}"></i>{escape(noun)}</span>'
    return f"""<p class="legend"><span><i></i>{escape(main.name)}</span>{switches}{limit}{mark}
<span class="keys moves" hidden><kbd>←</kbd> <kbd>→</kbd> or <kbd>k</kbd> <kbd>j</kbd> previous, next;
<kbd>Home</kbd> <kbd>End</kbd> first, last; or click{keys}</span></p>"""
