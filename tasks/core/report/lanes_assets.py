"""How the lanes of a report look and answer: their style sheet and their script."""

STYLE = """
:root { --light: 42%; --here: #fdeee4; --accent: #1f6fb4; }
@media (prefers-color-scheme: dark) { :root { --light: 66%; --here: #3a2618; --accent: #6db3f2; } }
.warning { padding: .6rem .8rem; background: var(--here); border-left: 4px solid #c2410c; overflow-wrap: anywhere; }
.stage { position: sticky; top: 0; z-index: 2; margin: 1rem -.5rem 0; padding: .5rem; background: var(--paper);
  border-bottom: 1px solid var(--line); }
.stage video { display: block; width: 100%; max-height: 46vh; margin: 0 auto .5rem; background: #000; }
.lanes-bar { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .75rem; min-height: 2.4rem; margin-bottom: .3rem; }
.lanes-bar > output { flex: 1 1 14rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.lanes-bar button { font: inherit; line-height: 1; min-width: 2.6rem; padding: .55rem .7rem; color: var(--ink); background: var(--mark);
  border: 1px solid var(--line); border-radius: .35rem; cursor: pointer; }
.least { display: flex; align-items: center; gap: .4rem; font-size: .85rem; color: var(--dim); white-space: nowrap; }
.least input { width: 7rem; accent-color: var(--accent); }
.least output { min-width: 2.2rem; font-variant-numeric: tabular-nums; }
.lanes { --names: 9.5rem; position: relative; max-height: 40vh; overflow-y: auto; overflow-x: hidden; }
.lane { display: flex; align-items: center; margin-bottom: .25rem; }
.lane-name { flex: 0 0 var(--names); padding-right: .6rem; font-size: .82rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.track { position: relative; flex: 1; height: 1.9rem; background: var(--mark); border-radius: .2rem; cursor: pointer; touch-action: pan-y; }
.track svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.track svg * { vector-effect: non-scaling-stroke; }
.track polyline { fill: none; stroke: hsl(var(--hue) 65% var(--light)); stroke-width: 1.1; opacity: .8; }
.track polygon { fill: hsl(var(--hue) 65% var(--light)); opacity: .14; }
.block { position: absolute; top: 18%; bottom: 18%; min-width: 4px; border-radius: .2rem;
  background: hsl(var(--hue) 65% var(--light) / var(--strength)); border: 1px solid hsl(var(--hue) 65% var(--light)); }
.block:hover { top: 8%; bottom: 8%; }
.block[aria-current] { top: 0; bottom: 0; outline: 2px solid var(--ink); outline-offset: 1px; z-index: 1; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.lanes-axis { margin-left: var(--names); }
.axis { position: relative; height: 1.2rem; margin-top: .2rem; }
.label { position: absolute; font-size: .72rem; line-height: 1; color: var(--dim); white-space: nowrap; pointer-events: none;
  font-variant-numeric: tabular-nums; }
.axis .label { transform: translateX(-50%); }
.axis .first { transform: none; }
.axis .last { transform: translateX(-100%); }
.playhead { position: absolute; top: 0; bottom: 1.3rem; border-left: 2px solid var(--ink); pointer-events: none; z-index: 2; }
.lanes-keys { margin: .3rem 0 0; font-size: .78rem; color: var(--dim); max-width: none; }
kbd { padding: 0 .3rem; font: inherit; border: 1px solid var(--line); border-radius: .2rem; background: var(--mark); }
tr[aria-current] td { background: var(--here); }
tr[data-mark] { cursor: pointer; }
td a { color: inherit; }
[hidden] { display: none !important; }
@media (max-width: 40rem), (max-height: 36rem) { .stage { position: static; } .lanes { max-height: none; } }
@media (max-width: 40rem) { .lanes { --names: 0rem; } .lane { display: block; }
  .lane-name { display: block; padding: 0 0 .1rem; font-size: .74rem; line-height: 1.2; }
  .stage video { max-height: 34vh; } .lanes-bar { font-size: .85rem; } .lanes-bar > output { flex-basis: 100%; }
  .axis .label:has(+ .last) { display: none; } }
@media (hover: none) and (pointer: coarse) { .lanes-keys { display: none; } }
@media print { .stage { position: static; } .lanes { max-height: none; } .stage video, .lanes-bar, .lanes-keys { display: none; } }
"""

SCRIPT = """
(() => {
  const get = (id) => document.getElementById(id);
  const stage = get("stage"), plot = get("lanes"), playhead = get("playhead"), player = get("player");
  const now = get("now"), least = get("least");
  const tracks = [...plot.querySelectorAll(".track")];
  const start = +plot.dataset.start, length = +plot.dataset.length, zero = +plot.dataset.zero;
  const blocks = [...plot.querySelectorAll(".block")].sort((a, b) => a.dataset.mark - b.dataset.mark);
  const rows = new Map([...document.querySelectorAll("tr[data-mark]")].map((row) => [row.dataset.mark, row]));
  let current = null, time = start, playable = Boolean(player);
  const open = () => blocks.filter((block) => !block.hidden);
  const parts = (block) => [block, rows.get(block.dataset.mark)].filter(Boolean);

  function clock(seconds) {
    const s = Math.floor(Math.abs(seconds)), pad = (value) => String(value).padStart(2, "0"), h = Math.floor(s / 3600);
    return `${seconds < 0 ? "-" : ""}${h ? h + ":" + pad(Math.floor(s / 60) % 60) : Math.floor(s / 60)}:${pad(s % 60)}`;
  }
  function show(seconds) {
    time = seconds;
    if (!tracks.length) return;
    const outer = plot.getBoundingClientRect(), track = tracks[0].getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (seconds - start) / length));
    playhead.hidden = false;
    playhead.style.left = track.left - outer.left + share * track.width + "px";
    playhead.style.height = plot.scrollHeight - 20 + "px";
  }
  function seek(seconds) {
    if (playable) player.currentTime = Math.max(0, seconds - zero);
    show(seconds);
  }
  function count() {
    const n = open().length;
    now.textContent = `${n} ${plot.dataset.noun}${n === 1 ? "" : "s"}` + (n < blocks.length ? ` of ${blocks.length}` : "");
  }
  function choose(block, focus = false) {
    if (!block) return;
    if (current) parts(current).forEach((part) => part.removeAttribute("aria-current"));
    current = block;
    parts(block).forEach((part) => part.setAttribute("aria-current", "true"));
    blocks.forEach((other) => { other.tabIndex = other === block ? 0 : -1; });
    now.textContent = block.getAttribute("aria-label");
    block.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focus) block.focus({ preventScroll: true });
    seek(+block.dataset.from);
  }
  function step(by) {
    const shown = open();
    if (!shown.length) return;
    const at = shown.indexOf(current);
    if (at >= 0) return choose(shown[Math.max(0, Math.min(shown.length - 1, at + by))], true);
    const after = shown.findIndex((block) => +block.dataset.from > time);
    choose(by > 0 ? shown[after < 0 ? shown.length - 1 : after] : shown[Math.max(0, (after < 0 ? shown.length : after) - 1)], true);
  }
  function filter() {
    get("least-value").textContent = (+least.value).toFixed(2);
    blocks.forEach((block) => parts(block).forEach((part) => { part.hidden = +block.dataset.score < +least.value; }));
    if (current && current.hidden) { parts(current).forEach((part) => part.removeAttribute("aria-current")); current = null; }
    const shown = open();
    blocks.forEach((block) => { block.tabIndex = block === (current || shown[0]) ? 0 : -1; });
    count();
  }
  const at = (event, track) => {
    const box = track.getBoundingClientRect();
    return start + Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * length;
  };
  plot.addEventListener("click", (event) => {
    const block = event.target.closest(".block"), track = event.target.closest(".track");
    if (block) { event.preventDefault(); choose(block, true); } else if (track) seek(at(event, track));
  });
  plot.addEventListener("focusin", (event) => {
    const block = event.target.closest(".block");
    if (block && block !== current && block.matches(":focus-visible")) choose(block);
  });
  document.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-mark]");
    if (!row || !getSelection().isCollapsed) return;
    event.preventDefault();
    choose(blocks[row.dataset.mark - 1]);
    stage.scrollIntoView({ block: "nearest" });
  });
  least.addEventListener("input", filter);
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, video")) return;
    const shown = open();
    const acts = { ArrowRight: () => step(1), j: () => step(1), ArrowLeft: () => step(-1), k: () => step(-1),
      Home: () => choose(shown[0], true), End: () => choose(shown[shown.length - 1], true) };
    if (playable && !event.target.matches("button")) acts[" "] = () => { player.paused ? player.play() : player.pause(); };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  });
  if (player) {
    player.addEventListener("error", () => { playable = false; player.hidden = true; get("unplayable").hidden = false; });
    if (player.error) player.dispatchEvent(new Event("error"));
    player.addEventListener("timeupdate", () => show(player.currentTime + zero));
    player.addEventListener("seeking", () => show(player.currentTime + zero));
    const follow = () => { show(player.currentTime + zero); if (!player.paused) requestAnimationFrame(follow); };
    player.addEventListener("play", follow);
  }
  window.addEventListener("resize", () => show(time));
  stage.querySelectorAll(".script, .least").forEach((part) => { part.hidden = !blocks.length; });
  filter();
  show(start);
  const linked = rows.get((location.hash.match(/^#row-([0-9]+)$/) || [])[1]);
  if (linked) { if (linked.hidden) { least.value = 0; filter(); } choose(blocks[linked.dataset.mark - 1]); }
})();
"""
