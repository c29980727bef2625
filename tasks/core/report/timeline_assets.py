"""How the timeline of a report looks and answers: its style sheet and its script."""

STYLE = """
:root { --curve: #1f6fb4; --mark-line: #c2410c; --here: #fdeee4; --part-1: #2b8a3e; --part-2: #9c36b5; --part-3: #a07400;
  --part-4: #0b7285; }
@media (prefers-color-scheme: dark) { :root { --curve: #6db3f2; --mark-line: #fb923c; --here: #3a2618; --part-1: #69db7c; --part-2: #da77f2;
  --part-3: #ffd43b; --part-4: #66d9e8; } }
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
.part { stroke: var(--colour); stroke-width: 1.1; opacity: .85; }
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
.span { margin-left: 0; top: 0; min-width: 3px; border-radius: 0; background: color-mix(in srgb, var(--mark-line) 20%, transparent); }
.span::before { left: 0; right: 0; bottom: auto; height: .3rem; margin: 0; border: 0; background: var(--mark-line); }
.span::after { content: none; }
.span:hover::before, .span[aria-current]::before { margin: 0; border: 0; }
.span[aria-current] { background: color-mix(in srgb, var(--mark-line) 38%, transparent); }
.span[aria-current]::before { height: .55rem; top: -.25rem; }
:focus-visible { outline: 2px solid var(--curve); outline-offset: 2px; }
.many { margin-top: 1.4rem; }
.many .marker:not(.span) { width: 5px; margin-left: -2.5px; top: -.8rem; }
.many .marker:not([aria-current], .span)::before { border-left-width: 1px; margin-left: -.5px; bottom: auto; height: .7rem; }
.many .marker:not([aria-current], .span)::after { content: none; }
.cursor { position: absolute; top: 0; bottom: 0; border-left: 1px solid var(--ink); pointer-events: none; z-index: 2; }
.cursor span { position: absolute; bottom: .2rem; left: .35rem; padding: .2rem .4rem; font-size: .78rem; line-height: 1.2;
  white-space: nowrap; color: var(--paper); background: var(--ink); border-radius: .25rem; font-variant-numeric: tabular-nums; }
.cursor.left span { left: auto; right: .35rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; max-width: none; margin: .4rem 0 0; font-size: .8rem; color: var(--dim); }
.legend > span { white-space: nowrap; }
.legend i { display: inline-block; width: 1.4rem; margin-right: .4rem; vertical-align: .25em; border-top: 2px solid var(--curve); }
.legend i.dashed { border-top: 2px dashed var(--ink); }
.legend i.part-key { border-top-color: var(--colour); }
.legend label { cursor: pointer; white-space: nowrap; }
.legend input { margin: 0 .35rem 0 0; vertical-align: -.1em; accent-color: var(--colour); }
.legend i.shade { height: .8rem; vertical-align: -.1em; border-top: 3px solid var(--mark-line);
  background: color-mix(in srgb, var(--mark-line) 20%, transparent); }
.legend i.head { width: 0; vertical-align: -.35em; border: 5px solid transparent; border-top: 7px solid var(--mark-line); }
.keys { margin-left: auto; }
kbd { padding: 0 .3rem; font: inherit; border: 1px solid var(--line); border-radius: .2rem; background: var(--mark); }
[hidden] { display: none !important; }
.panel + h2 { margin-top: 1rem; border-top: 0; }
@media (hover: none) and (pointer: coarse) { .keys { display: none; } }
@media (max-width: 40rem) { .keys { margin-left: 0; } .legend > .keys { white-space: normal; } .plot { height: 6rem; }
  .bar { margin-bottom: .7rem; font-size: .78rem; line-height: 1.3; }
  .axis .label:has(+ .last) { display: none; } }
@media print { .panel { position: static; } .bar, .keys { display: none; }
  h2 { break-after: avoid; } }
"""

SCRIPT = """
(() => {
  const get = (id) => document.getElementById(id);
  const panel = get("panel"), plot = get("plot"), cursor = get("cursor"), now = get("now");
  const marks = [...plot.querySelectorAll(".marker")];
  const lefts = marks.map((mark) => parseFloat(mark.style.left) / 100);
  const rights = marks.map((mark, i) => lefts[i] + (parseFloat(mark.style.width) || 0) / 100);
  const start = +plot.dataset.start, length = +plot.dataset.length;
  const drawing = plot.querySelector("svg").viewBox.baseVal;
  const curves = [...new Set([...plot.querySelectorAll(".curve")].map((line) => line.dataset.curve))].sort().map((number) => {
    const lines = [...plot.querySelectorAll(`.curve[data-curve="${number}"]`)], { name, low, high } = lines[0].dataset;
    const points = lines.flatMap((line) => line.getAttribute("points").split(" ")).map((point) => point.split(",").map(Number));
    const values = points.map(([, y]) => +low + (1 - y / drawing.height) * (high - low));
    return { number, name, lines, shares: points.map(([x]) => x / drawing.width), values };
  });
  let current = -1;
  document.documentElement.classList.add("script");

  const parts = (i) => [marks[i], ...document.querySelectorAll(`[data-mark="${i + 1}"]`)];
  const nearest = (values, wanted) => values.reduce((best, v, i) => Math.abs(v - wanted) < Math.abs(values[best] - wanted) ? i : best, 0);

  function choose(i, focus = false, scroll = true) {
    if (!marks.length) return;
    i = Math.max(0, Math.min(marks.length - 1, i));
    if (current >= 0) parts(current).forEach((part) => part.removeAttribute("aria-current"));
    current = i;
    parts(i).forEach((part) => part.setAttribute("aria-current", "true"));
    panel.querySelectorAll(".script").forEach((part) => { part.hidden = false; });
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
    for (const { name, lines, shares, values } of curves) {
      if (!lines[0].hasAttribute("hidden")) text += ` · ${name} ${values[nearest(shares, share)].toFixed(2)}`;
    }
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
    const away = lefts.map((left, i) => Math.max(left - share, share - rights[i], 0));
    const i = nearest(away, 0);
    if (marks.length && away[i] * width <= 24) choose(i, true);
  });
  plot.addEventListener("focusin", (event) => {
    const i = marks.indexOf(event.target.closest(".marker"));
    if (i >= 0 && i !== current) choose(i);
  });
  document.addEventListener("click", (event) => {
    const part = event.target.closest("[data-mark]");
    if (!part || !getSelection().isCollapsed) return;
    const link = event.target.closest("a");
    if (link) event.preventDefault();
    choose(part.dataset.mark - 1, false, Boolean(link));
  });
  const toggles = [...panel.querySelectorAll("input[data-shows]")];
  const show = (toggle) => curves.filter(({ number }) => number === toggle.dataset.shows)
    .forEach(({ lines }) => lines.forEach((line) => line.toggleAttribute("hidden", !toggle.checked)));
  toggles.forEach((toggle) => { toggle.addEventListener("change", () => show(toggle)); show(toggle); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (toggles[event.key - 1]) return toggles[event.key - 1].click();
    const next = current + 1, previous = current - 1;
    const to = { ArrowRight: next, j: next, ArrowLeft: previous, k: previous, Home: 0, End: marks.length - 1 }[event.key];
    if (to === undefined || !marks.length) return;
    event.preventDefault();
    choose(to, true);
  });
  get("previous").addEventListener("click", () => choose(current - 1));
  get("next").addEventListener("click", () => choose(current + 1));

  panel.querySelectorAll(".script").forEach((part) => { part.hidden = false; });
  marks.forEach((mark, k) => { mark.tabIndex = k ? -1 : 0; });
  panel.querySelectorAll(".moves").forEach((part) => { part.hidden = !marks.length; });
  const linked = marks.findIndex((mark) => mark.hash === location.hash);
  if (linked >= 0) choose(linked);
})();
"""
