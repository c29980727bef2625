"""The page of a search: what was found, with a picture of each moment that links into the video."""

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tasks.core.errors import InputError
from tasks.core.report.page import Page
from tasks.core.report.timeline import clock
from tasks.core.video.open import open_video
from tasks.prompting.search.find import Found

PICTURE_PX = 180
"""Short side of a picture, px."""
_STYLE = """
.found { list-style: none; margin: 1.5rem 0; padding: 0; display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
.found li { border: 1px solid var(--line); border-radius: 6px; overflow: hidden; display: flex; flex-direction: column; }
.found a { display: block; color: inherit; text-decoration: none; }
.found a:focus-visible { outline: 3px solid #3b82c4; outline-offset: -3px; }
.found img, .found .gone { display: block; width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #101418; }
.found .gone { display: grid; place-items: center; color: #c3cad2; font-size: .9rem; padding: 0 1rem; text-align: center; }
.found .about { padding: .6rem .75rem .75rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.found .about p { margin: 0; }
.found .when { font-weight: 600; }
.found .score { float: right; color: var(--dim); font-weight: 400; }
.found .name, .found .said { color: var(--dim); font-size: .9rem; }
.found .said { font-style: italic; }
"""


def write_page(path: Path, title: str, found: Sequence[Found], facts: dict[str, object]) -> Path:
    """Writes the page; the links are relative to its folder where the videos can be reached so.

    Args:
        path: of the page.
        title: what was looked for.
        found: the best first.
        facts: how it was looked for.
    """
    page = Page(title, "the best moment" if len(found) == 1 else f"the {len(found)} best moments" if found else "nothing was found")
    items = "".join(_item(rank, one, path.parent) for rank, one in enumerate(found, 1))
    return page.markup(f'<ol class="found">{items}</ol>', _STYLE).section("How").facts(facts).write(path)


def _item(rank: int, found: Found, folder: Path) -> str:
    moment, video = found.moment, found.video
    when = f"{clock(moment.start_s)[:-4]} to {clock(moment.end_s)[:-4]}"
    said = " ".join(sentence.text for sentence in found.said)
    quoted = f'<p class="said">{escape(said if len(said) <= 200 else said[:199] + "…")}</p>' if said else ""
    name = escape(os.path.basename(video.path))
    return (
        f'<li><a href="{escape(link_to(video.path, moment.start_s, folder))}" aria-label="{rank}: {name}, {when}">'
        f"{_picture(video.path, moment.at_s, f'{name} at {clock(moment.at_s)}')}</a>"
        f'<div class="about"><p class="when">{rank}. {when}<span class="score">{moment.score:.3f}</span></p>'
        f'<p class="name" title="{escape(video.path)}">{escape("/".join(Path(video.path).parts[-2:]))}</p>{quoted}</div></li>'
    )


def link_to(video: str, seconds: float, folder: Path) -> str:
    """An address that opens a video at a time (Media Fragments URI, W3C 2012): relative to the page's folder, which may move with it."""
    try:
        place = quote(Path(os.path.relpath(video, folder.resolve())).as_posix())
    except ValueError:  # another drive
        place = Path(video).as_uri()
    return f"{place}#t={max(0.0, seconds):.2f}"


def _picture(video: str, seconds: float, alt: str) -> str:
    try:
        with open_video(video) as reader:
            frame = reader.get_at([seconds], min(PICTURE_PX, reader.height, reader.width))[0]
    except InputError as error:
        reason = getattr(error, "reason", error.message)
        return f'<span class="gone">no picture: {escape(reason)}</span>'
    return f'<img src="data:image/jpeg;base64,{_jpeg(frame)}" alt="{escape(alt)}">'


def _jpeg(frame: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=85)
    return base64.b64encode(content.getvalue()).decode()
