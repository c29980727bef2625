"""What the reports of detectors have in common below their timeline: cards with pictures, a table, settings."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

SIDE_PX = 200  # pictures fit into a square of this side

STYLE = """
.warning { padding: .6rem .8rem; background: var(--here); border-left: 4px solid var(--mark-line); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .75rem; padding: 0; margin: 1rem 0;
  list-style: none; }
.card { padding: .6rem; border: 1px solid var(--line); border-radius: .4rem; cursor: pointer; break-inside: avoid;
  content-visibility: auto; contain-intrinsic-size: auto 10rem; }
.card p { display: flex; gap: .75rem; margin: 0 0 .5rem; font-variant-numeric: tabular-nums; }
.card p span:last-child { margin-left: auto; color: var(--dim); }
.card p.why { gap: .3rem .75rem; flex-wrap: wrap; margin: .4rem 0 0; font-size: .8rem; color: var(--dim); }
.card p.why span:last-child { margin-left: 0; }
.number-of { min-width: 1.6rem; color: var(--mark-line); font-weight: 700; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .4rem; }
.pair figure { margin: 0; min-width: 0; }
.pair img { max-width: 100%; margin: 0 auto; border: 0; background: none; border-radius: .2rem; }
.pair figcaption { margin-top: .15rem; font-size: .75rem; text-align: center; }
.card[aria-current], :root:not(.script) .card:target { border-color: var(--mark-line); background: var(--here);
  box-shadow: 0 0 0 1px var(--mark-line); }
tr[aria-current] td { background: var(--here); }
tr[data-mark] { cursor: pointer; }
td a { color: inherit; }
"""
"""Needs the colours of `timeline.STYLE`."""


def cards(identity: str, contents: Sequence[tuple[Sequence[str], str]]) -> str:
    """One card per mark of the timeline.

    Args:
        identity: card i (from 1) has the id `identity-i`.
        contents: per card the texts of its first line and markup below it.
    """
    found = []
    for i, (head, below) in enumerate(contents, start=1):
        line = "".join(f"<span>{escape(text)}</span>" for text in head)
        first = f'<p><span class="number-of">{i}</span>{line}</p>'
        found.append(f'<li id="{escape(identity)}-{i}" class="card" data-mark="{i}">{first}{below}</li>')
    return f'<ol class="cards">{"".join(found)}</ol>'


def pair(pictures: Sequence[tuple[np.ndarray, str, str]]) -> str:
    """Two pictures side by side.

    Args:
        pictures: ((H, W, 3) uint8 RGB, text for those who cannot see it, caption).
    """
    sides = "".join(
        f'<figure><img src="{jpeg_uri(picture)}" alt="{escape(alt)}" decoding="async"><figcaption>{escape(caption)}</figcaption></figure>'
        for picture, alt, caption in pictures
    )
    return f'<div class="pair">{sides}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], targets: Sequence[str]) -> str:
    """A row per mark of the timeline, with its number (a link to what it marks) in front; row i has the id `row-i`.

    Args:
        header: names of the columns.
        rows: cells as text.
        targets: id of the element that each number leads to.
    """
    body = ""
    for i, (row, target) in enumerate(zip(rows, targets, strict=True), start=1):
        cells = "".join(f'<td class="number">{escape(cell)}</td>' for cell in row)
        body += f'<tr id="row-{i}" data-mark="{i}"><td class="number"><a href="#{escape(target)}">{i}</a></td>{cells}</tr>'
    head = "".join(f'<th class="number" scope="col">{escape(name)}</th>' for name in ("#", *header))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def told(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Settings for people: nested ones one after the other, units behind names (`min gap (s)`), what is not set left out."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= told(value, f"{prefix}{_words(name)}: ")
        elif value is not None and value != []:
            found[prefix + _words(name)] = _value(value)
    return found


UNITS = {"s": "s", "px": "px", "frames": "frames"}
"""Last part of a setting's name: its unit."""


def _words(name: str) -> str:
    *front, last = name.split("_")
    return f"{' '.join(front)} ({UNITS[last]})" if front and last in UNITS else name.replace("_", " ")


def _value(value: Any) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(_value(item)) for item in value)
    return value


def jpeg_uri(picture: np.ndarray, side_px: int = SIDE_PX) -> str:
    """A data URI of an (H, W, 3) uint8 picture, scaled down to fit into a square of this side."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(picture, side_px)).decode()}"


def jpeg(picture: np.ndarray, side_px: int = SIDE_PX) -> bytes:
    """The same as bytes."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=78, optimize=True)
    return buffer.getvalue()
