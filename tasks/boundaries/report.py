"""The report of one video: a self-contained HTML page with a timeline and the pictures on each side of every boundary."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tasks.boundaries import timeline
from tasks.boundaries.result import Detection
from tasks.boundaries.timeline import clock
from tasks.boundaries.writers import as_record
from tasks.core import files
from tasks.core.report.page import Page

MAX_PICTURED = 300  # boundaries with thumbnails; more would make a page of many megabytes
SIDE_PX = 200  # thumbnails fit into a square of this side
_AFTER_S = 0.25  # right after a boundary most of the picture is still the same

_STYLE = """
.warning { padding: .6rem .8rem; background: var(--here); border-left: 4px solid var(--mark-line); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .75rem; padding: 0; margin: 1rem 0;
  list-style: none; }
.card { padding: .6rem; border: 1px solid var(--line); border-radius: .4rem; cursor: pointer; break-inside: avoid;
  content-visibility: auto; contain-intrinsic-size: auto 10rem; }
.card p { display: flex; gap: .75rem; margin: 0 0 .5rem; font-variant-numeric: tabular-nums; }
.card p span:last-child { margin-left: auto; color: var(--dim); }
.number-of { min-width: 1.6rem; color: var(--mark-line); font-weight: 700; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; }
.pair figure { margin: 0; }
.pair img { margin: 0 auto; border: 0; background: none; border-radius: .2rem; }
.pair figcaption { margin-top: .15rem; font-size: .75rem; text-align: center; }
.card[aria-current], :root:not(.script) .card:target { border-color: var(--mark-line); background: var(--here);
  box-shadow: 0 0 0 1px var(--mark-line); }
tr[aria-current] td { background: var(--here); }
tr[data-boundary] { cursor: pointer; }
td a { color: inherit; }
"""


def pictured(detection: Detection) -> list[int]:
    """Numbers of the boundaries that the report shows with thumbnails, in order of time: all, or the `MAX_PICTURED` that score highest."""
    scores = np.array([-boundary.score for boundary in detection.boundaries])
    return sorted(np.argsort(scores, kind="stable")[:MAX_PICTURED].tolist())


def thumbnail_frames(detection: Detection) -> list[tuple[int, int]]:
    """The frames that `write_report` wants, one pair per boundary of `pictured`.

    Returns:
        (last frame before the boundary, frame a quarter of a second after it); decode ordinals in [0, n_frames). The second comes
        earlier where the next boundary or the end of the video is near.
    """
    frames = [boundary.frame for boundary in detection.boundaries]
    last = detection.n_frames - 1
    pairs = []
    for i in pictured(detection):
        later = [frame for frame in frames[i + 1 : i + 2] if frame > frames[i]]
        end = (frames[i] + later[0]) // 2 if later else last
        after = min(frames[i] + round(_AFTER_S * detection.fps), end, last)
        pairs.append((max(0, frames[i] - 1), after))
    return pairs


def write_report(path: Path, detection: Detection, thumbnails: Sequence[tuple[np.ndarray, np.ndarray]] | None = None) -> None:
    """Writes the page; it appears whole or not at all, and asks for nothing outside itself.

    Args:
        thumbnails: a pair of frames, (H, W, 3) uint8 RGB of any size, for each pair of `thumbnail_frames`; None: a page without pictures.

    Raises:
        ValueError: the number of thumbnails is not that of `thumbnail_frames`.
    """
    shown = pictured(detection) if thumbnails is not None else []
    if thumbnails is not None and len(thumbnails) != len(shown):
        raise ValueError(f"{len(thumbnails)} pairs of thumbnails for {len(shown)} boundaries")
    record = as_record(detection)
    n = len(detection.boundaries)
    page = Page(Path(record["video"]).name or record["video"], _subtitle(record))
    if detection.damage:
        page.markup(f'<p class="warning" role="note">The video is damaged: {escape(detection.damage)}</p>')
    targets = [f"{'boundary' if shown else 'row'}-{i + 1}" for i in range(n)]
    page.markup(timeline.timeline(detection, targets), timeline.STYLE + _STYLE)
    if not n:
        page.text(_why_none(detection))
    if shown:
        page.section("Before and after")
        if len(shown) < n:
            page.text(f"Pictures of the {len(shown)} boundaries with the highest scores out of {n}.")
        page.markup(_cards(detection, shown, thumbnails))
    if n:
        page.section("All boundaries").markup(_table(record["boundaries"], targets))
    page.section("Details").facts(_facts(record, len(detection.scores)))
    page.markup(timeline.script())
    files.write_text(path, page.html())


def _subtitle(record: Mapping[str, Any]) -> str:
    n = len(record["boundaries"])
    count = f"{n} boundaries" if n != 1 else "1 boundary"
    size = f"{record['width']}×{record['height']}"
    return f"{count} · {clock(record['duration_s'])} · {record['n_frames']} frames · {record['fps']:.5g} fps · {size} · {record['method']}"


def _why_none(detection: Detection) -> str:
    if not len(detection.scores):
        return "There are no boundaries: the video is too short to be scored."
    return f"There are no boundaries. The highest score is {float(detection.scores.score.max()):.2f}."


def _cards(detection: Detection, shown: Sequence[int], thumbnails: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    pairs = dict(zip(shown, zip(thumbnail_frames(detection), thumbnails, strict=True), strict=True))
    cards = []
    for i, boundary in enumerate(detection.boundaries):
        head = f'<span class="number-of">{i + 1}</span><span>{clock(boundary.t)}</span><span>score {boundary.score:.2f}</span>'
        pair = _pair(i + 1, *pairs[i]) if i in pairs else ""
        cards.append(f'<li id="boundary-{i + 1}" class="card" data-boundary="{i + 1}"><p>{head}</p>{pair}</li>')
    return f'<ol class="cards">{"".join(cards)}</ol>'


def _pair(number: int, frames: tuple[int, int], pictures: tuple[np.ndarray, np.ndarray]) -> str:
    sides = "".join(
        f'<figure><img src="{_jpeg(picture)}" alt="{side} boundary {number}" decoding="async">'
        f"<figcaption>{side} · frame {frame}</figcaption></figure>"
        for side, frame, picture in zip(("before", "after"), frames, pictures, strict=True)
    )
    return f'<div class="pair">{sides}</div>'


def _table(boundaries: Sequence[Mapping[str, Any]], targets: Sequence[str]) -> str:
    rows = "".join(
        f'<tr id="row-{i}" data-boundary="{i}"><td class="number"><a href="#{target}">{i}</a></td><td class="number">{clock(b["t"])}</td>'
        f'<td class="number">{b["t"]:.6f}</td><td class="number">{b["frame"]}</td><td class="number">{b["score"]:.4f}</td></tr>'
        for i, (b, target) in enumerate(zip(boundaries, targets, strict=True), start=1)
    )
    head = "".join(f'<th class="number" scope="col">{name}</th>' for name in ("#", "time", "t (s)", "frame", "score"))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _facts(record: Mapping[str, Any], n_scores: int) -> dict[str, object]:
    facts = {
        "video": record["video"],
        "method": record["method"],
        "candidates scored": n_scores,
        "first frame at (s)": f"{record['start_s']:g}",
    }
    return facts | _flat(record["settings"])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _jpeg(picture: np.ndarray) -> str:
    """A data URI of the picture, scaled down to fit `SIDE_PX`."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=78, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
