"""The timeline of a report: score curve, threshold, a marker per boundary; mouse, touch and keyboard."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from tasks.boundaries.result import Detection, Scores

_WIDTH, _HEIGHT = 1000, 100  # of the drawing's coordinates; the page stretches it
_MANY = 100  # boundaries, from here on markers are thin and without heads
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)

STYLE = """
:root { --curve: #1f6fb4; --mark-line: #c2410c; --here: #fdeee4; }
@media (prefers-color-scheme: dark) { :root { --curve: #6db3f2; --mark-line: #fb923c; --here: #3a2618; } }
html { scroll-padding-top: 17rem; }
.panel { position: sticky; top: 0; z-index: 2; margin: 1.5rem -.5rem 0; padding: .5rem; background: var(--paper);
  border-bottom: 1px solid var(--line); }
.bar { display: flex; align-items: center; gap: .5rem; margin-bottom: .9rem; min-height: 2.25rem; }
.bar output { flex: 1; font-weight: 600; font-variant-numeric: tabular-nums; }
.bar button { font: inherit; line-height: 1; padding: .45rem .7rem; color: var(--ink); background: var(--mark);
  border: 1px solid var(--line); border-radius: .35rem; cursor: pointer; }
.plot { position: relative; height: 7.5rem; margin-left: 1.75rem; cursor: pointer; touch-action: pan-y; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot svg * { vector-effect: non-scaling-stroke; }
.rule { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke: var(--curve); stroke-width: 1.4; stroke-linejoin: round; }
.area { fill: var(--curve); opacity: .14; }
.threshold { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 5 4; }
.label { position: absolute; font-size: .72rem; line-height: 1; color: var(--dim); white-space: nowrap; pointer-events: none;
  font-variant-numeric: tabular-nums; }
.level { right: 100%; margin-right: .35rem; transform: translateY(-50%); }
.axis { position: relative; height: 1.2rem; margin: .35rem 0 0 1.75rem; }
.axis .label { transform: translateX(-50%); }
.axis .first { transform: none; }
.axis .last { transform: translateX(-100%); }
.marker { position: absolute; top: -.3rem; bottom: 0; width: 13px; margin-left: -6.5px; border-radius: 3px; }
.marker::before { content: ""; position: absolute; top: 0; bottom: 0; left: 50%; margin-left: -1px;
  border-left: 2px solid var(--mark-line); opacity: .75; }
.marker::after { content: ""; position: absolute; top: -.1rem; left: 50%; margin-left: -5px; border: 5px solid transparent;
  border-top: 7px solid var(--mark-line); }
.marker:hover::before { opacity: 1; margin-left: -1.5px; border-left-width: 3px; }
.marker[aria-current]::before { opacity: 1; margin-left: -2px; border-left-width: 4px; }
.marker[aria-current]::after { margin-left: -8px; border-width: 8px; border-top-width: 11px; top: -.35rem; }
.marker[aria-current] { z-index: 1; }
:focus-visible { outline: 2px solid var(--curve); outline-offset: 2px; }
.many { margin-top: 1.4rem; }
.many .marker { width: 5px; margin-left: -2.5px; top: -.8rem; }
.many .marker:not([aria-current])::before { border-left-width: 1px; margin-left: -.5px; bottom: auto; height: .7rem; }
.many .marker:not([aria-current])::after { content: none; }
.cursor { position: absolute; top: 0; bottom: 0; border-left: 1px solid var(--ink); pointer-events: none; z-index: 2; }
.cursor span { position: absolute; bottom: .2rem; left: .35rem; padding: .2rem .4rem; font-size: .78rem; line-height: 1.2;
  white-space: nowrap; color: var(--paper); background: var(--ink); border-radius: .25rem; font-variant-numeric: tabular-nums; }
.cursor.left span { left: auto; right: .35rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; max-width: none; margin: .4rem 0 0; font-size: .8rem; color: var(--dim); }
.legend > span { white-space: nowrap; }
.legend i { display: inline-block; width: 1.4rem; margin-right: .4rem; vertical-align: .25em; border-top: 2px solid var(--curve); }
.legend i.dashed { border-top: 2px dashed var(--ink); }
.legend i.head { width: 0; vertical-align: -.35em; border: 5px solid transparent; border-top: 7px solid var(--mark-line); }
.keys { margin-left: auto; }
kbd { padding: 0 .3rem; font: inherit; border: 1px solid var(--line); border-radius: .2rem; background: var(--mark); }
[hidden] { display: none !important; }
.panel + h2 { margin-top: 1rem; border-top: 0; }
@media (max-width: 40rem) { .keys { display: none; } .plot { height: 6rem; }
  .bar { margin-bottom: .7rem; font-size: .78rem; line-height: 1.3; }
  .axis .label:has(+ .last) { display: none; } }
@media print { .panel { position: static; } .bar, .keys { display: none; }
  h2 { break-after: avoid; } }
"""

_SCRIPT = """
(() => {
  const get = (id) => document.getElementById(id);
  const panel = get("panel"), plot = get("plot"), cursor = get("cursor"), now = get("now");
  const marks = [...plot.querySelectorAll(".marker")];
  const lefts = marks.map((mark) => parseFloat(mark.style.left) / 100);
  const start = +plot.dataset.start, length = +plot.dataset.length;
  const drawing = plot.querySelector("svg").viewBox.baseVal;
  const points = [...plot.querySelectorAll(".curve")].flatMap((line) => line.getAttribute("points").split(" "))
    .map((point) => point.split(",").map(Number));
  const shares = points.map(([x]) => x / drawing.width), scores = points.map(([, y]) => 1 - y / drawing.height);
  let current = -1;
  document.documentElement.classList.add("script");

  const parts = (i) => [marks[i], ...document.querySelectorAll(`[data-boundary="${i + 1}"]`)];
  const nearest = (values, wanted) => values.reduce((best, v, i) => Math.abs(v - wanted) < Math.abs(values[best] - wanted) ? i : best, 0);

  function choose(i, focus = false, scroll = true) {
    if (!marks.length) return;
    i = Math.max(0, Math.min(marks.length - 1, i));
    if (current >= 0) parts(current).forEach((part) => part.removeAttribute("aria-current"));
    current = i;
    parts(i).forEach((part) => part.setAttribute("aria-current", "true"));
    marks.forEach((mark, k) => { mark.tabIndex = k === i ? 0 : -1; });
    now.textContent = marks[i].getAttribute("aria-label");
    if (focus) marks[i].focus({ preventScroll: true });
    if (scroll) {
      document.documentElement.style.scrollPaddingTop = panel.offsetHeight + 12 + "px";
      document.querySelector(marks[i].hash).scrollIntoView({ block: "nearest" });
    }
  }

  function clock(seconds) {
    const ms = Math.round(Math.abs(seconds) * 1000), s = Math.floor(ms / 1000), h = Math.floor(s / 3600);
    const pad = (value, digits = 2) => String(value).padStart(digits, "0");
    const minutes = Math.floor(s / 60) % 60;
    return `${seconds < 0 ? "-" : ""}${h ? h + ":" + pad(minutes) : minutes}:${pad(s % 60)}.${pad(ms % 1000, 3)}`;
  }

  const across = (event) => {
    const box = plot.getBoundingClientRect();
    return { share: Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)), width: box.width };
  };
  plot.addEventListener("pointermove", (event) => {
    const { share } = across(event);
    let text = clock(start + share * length);
    if (scores.length) text += ` · score ${scores[nearest(shares, share)].toFixed(2)}`;
    cursor.hidden = false;
    cursor.style.left = share * 100 + "%";
    cursor.classList.toggle("left", share > 0.6);
    cursor.firstElementChild.textContent = text;
  });
  plot.addEventListener("pointerleave", () => { cursor.hidden = true; });
  plot.addEventListener("click", (event) => {
    event.preventDefault();
    const key = event.detail === 0 ? marks.indexOf(event.target.closest(".marker")) : -1;
    if (key >= 0) return choose(key, true);
    const { share, width } = across(event);
    const i = nearest(lefts, share);
    if (marks.length && Math.abs(lefts[i] - share) * width <= 24) choose(i, true);
  });
  plot.addEventListener("focusin", (event) => {
    const i = marks.indexOf(event.target.closest(".marker"));
    if (i >= 0 && i !== current) choose(i);
  });
  document.addEventListener("click", (event) => {
    const part = event.target.closest("[data-boundary]");
    if (!part || !getSelection().isCollapsed) return;
    const link = event.target.closest("a");
    if (link) event.preventDefault();
    choose(part.dataset.boundary - 1, false, Boolean(link));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const next = current + 1, previous = current - 1;
    const to = { ArrowRight: next, j: next, ArrowLeft: previous, k: previous, Home: 0, End: marks.length - 1 }[event.key];
    if (to === undefined || !marks.length) return;
    event.preventDefault();
    choose(to, true);
  });
  get("previous").addEventListener("click", () => choose(current - 1));
  get("next").addEventListener("click", () => choose(current + 1));

  marks.forEach((mark, k) => { mark.tabIndex = k ? -1 : 0; });
  panel.querySelectorAll(".script").forEach((part) => { part.hidden = !marks.length; });
  const linked = marks.findIndex((mark) => mark.hash === location.hash);
  if (linked >= 0) choose(linked);
})();
"""


def clock(seconds: float) -> str:
    """Seconds as `m:ss.mmm` or `h:mm:ss.mmm`."""
    ms = round(abs(seconds) * 1000)
    minutes, rest = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{'-' if seconds < 0 else ''}{front}:{rest:02d}.{ms % 1000:03d}"


def peaks(scores: Scores, start: float, length: float, buckets: int = _WIDTH) -> np.ndarray:
    """The scores that a drawing of `buckets` columns can show: the highest of each column, so that no peak is lost.

    Args:
        start, length: the stretch of time that is drawn, seconds.

    Returns:
        (n,) int64 positions in `scores`, increasing; n <= buckets, and all of them where there are no more than `buckets`.
    """
    if len(scores) <= buckets:
        return np.arange(len(scores))
    column = np.clip((scores.t - start) / length * buckets, 0, buckets - 1).astype(np.int64)
    firsts = np.flatnonzero(np.diff(column, prepend=-1))
    lasts = np.append(firsts[1:], len(scores))
    return np.array([first + np.argmax(scores.score[first:last]) for first, last in zip(firsts, lasts, strict=True)])


def timeline(detection: Detection, targets: Sequence[str]) -> str:
    """The timeline as HTML; needs `STYLE`. Without JavaScript the markers are links to what they mark.

    Elements of the page that carry `data-boundary="N"` (N from 1) are chosen together with marker N, by a click on either.

    Args:
        targets: id of the element to show for each boundary.
    """
    start, length = detection.start_s, max(detection.duration_s, 1e-6)
    n = len(detection.boundaries)
    threshold = detection.settings.get("threshold")
    if not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
        threshold = None
    marks = []
    for i, (boundary, target) in enumerate(zip(detection.boundaries, targets, strict=True), start=1):
        left = 100 * min(1.0, max(0.0, (boundary.t - start) / length))
        name = f"{i} of {n} · {clock(boundary.t)} · frame {boundary.frame} · score {boundary.score:.2f}"
        marks.append(f'<a class="marker" style="left:{left:.4f}%" href="#{escape(target)}" aria-label="{name}"></a>')
    count = f"{n} boundaries" if n != 1 else "1 boundary"
    return f"""<section id="panel" class="panel" aria-label="Timeline">
<div class="bar"><output id="now" aria-live="polite">{count}</output>
<button id="previous" class="script" type="button" aria-label="previous boundary" hidden>◀</button>
<button id="next" class="script" type="button" aria-label="next boundary" hidden>▶</button></div>
<div id="plot" class="plot{" many" if n > _MANY else ""}" data-start="{start!r}" data-length="{length!r}">
{_drawing(detection.scores, start, length, threshold)}
<nav aria-label="boundaries on the timeline">{"".join(marks)}</nav>
<div id="cursor" class="cursor" hidden><span></span></div>
</div>
{_axis(start, length)}
{_legend(threshold)}
</section>"""


def script() -> str:
    """The element that makes the timeline answer; the page's last."""
    return f"<script>{_SCRIPT}</script>"


def _drawing(scores: Scores, start: float, length: float, threshold: float | None) -> str:
    """The drawing stretches with the page; its labels stand beside it, so that letters do not."""
    about = f"score over time, {clock(start)} to {clock(start + length)}"
    levels = [0.0, 1.0]
    lines = [_level("rule", level) for level in levels] + _curve(scores, start, length)
    if threshold is not None:
        lines.append(_level("threshold", threshold))
        levels += [threshold] if 0.1 <= threshold <= 0.9 else []  # else it would stand on 0 or 1
        about += f", threshold {threshold:g}"
    labels = "".join(f'<span class="label level" style="top:{100 - 100 * level:g}%">{level:.2g}</span>' for level in levels)
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none"'
    return f'<svg {box} role="img" aria-label="{about}">{"".join(lines)}</svg>\n{labels}'


def _level(kind: str, level: float) -> str:
    y = _HEIGHT * (1 - level)
    return f'<line class="{kind}" x1="0" x2="{_WIDTH}" y1="{y:g}" y2="{y:g}"/>'


def _curve(scores: Scores, start: float, length: float) -> list[str]:
    if not len(scores):
        return []
    shown = peaks(scores, start, length)
    xs = np.clip((scores.t[shown] - start) / length, 0, 1) * _WIDTH
    ys = (1 - scores.score[shown].astype(np.float64)) * _HEIGHT
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in zip(xs, ys, strict=True))
    area = f"{xs[0]:.2f},{_HEIGHT} {points} {xs[-1]:.2f},{_HEIGHT}"
    return [f'<polygon class="area" points="{area}"/>', f'<polyline class="curve" points="{points}"/>']


def _axis(start: float, length: float) -> str:
    """At most seven round times."""
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


def _legend(threshold: float | None) -> str:
    limit = f'<span><i class="dashed"></i>threshold {threshold:g}</span>' if threshold is not None else ""
    return f"""<p class="legend"><span><i></i>score</span>{limit}<span><i class="head"></i>boundary</span>
<span class="keys script" hidden><kbd>←</kbd> <kbd>→</kbd> or <kbd>k</kbd> <kbd>j</kbd> previous, next;
<kbd>Home</kbd> <kbd>End</kbd> first, last; or click</span></p>"""
