"""Nearest neighbours as a page: frames of test videos, and below each the training videos that every method finds most alike."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tasks.classify.config import EvalConfig, PageConfig
from tasks.classify.search import Search, name_of
from tasks.core.data.rows import Row
from tasks.core.report.cards import jpeg_uri
from tasks.core.report.films import strip
from tasks.core.report.page import Page
from tasks.core.reporter import Reporter
from tasks.core.video.reader import VideoError

SIDE_PX = 96
QUERY_FRAMES, NEIGHBOUR_FRAMES = 7, 3

STYLE = """
:root { --right: #1d7a46; --wrong: #b3362b; }
@media (prefers-color-scheme: dark) { :root { --right: #5fc48b; --wrong: #f0857a; } }
.query { margin: 1.25rem 0; padding: .75rem; border: 1px solid var(--line); border-radius: .4rem; break-inside: avoid;
  content-visibility: auto; contain-intrinsic-size: auto 22rem; }
.query h3 { margin: .75rem 0 .25rem; font-size: .85rem; font-weight: 600; overflow-wrap: anywhere; }
.query figure { margin: 0; }
.query img { width: 100%; border: 0; background: none; border-radius: .2rem; }
.query > figure img { max-width: 42rem; }
.query figcaption { margin-top: .2rem; font-size: .8rem; overflow-wrap: anywhere; }
.query > figure figcaption b { font-size: 1rem; }
.nearest { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 11rem), 1fr)); gap: .6rem; margin: 0; padding: 0;
  list-style: none; }
.nearest li { padding: .3rem; border: 2px solid var(--wrong); border-radius: .35rem; }
.nearest li.right { border-color: var(--right); }
.verdict { color: var(--wrong); font-weight: 600; }
.right .verdict { color: var(--right); }
.name { display: block; color: var(--dim); }
.missing { margin: 0; padding: 1rem; color: var(--dim); font-size: .8rem; }
"""


def write_page(path: Path, result: Mapping[str, Any], found: Search, config: EvalConfig, reporter: Reporter) -> None:
    """Writes the page; it appears whole or not at all, and asks for nothing outside itself.

    Args:
        path: the file.
        result: what was reported, for the details.
        found: what is shown.
        config: of the evaluation.
        reporter: shows how far the pictures are.
    """
    first = next(iter(found.methods))
    right = hits(found, first)
    wrong, good = chosen(right, config.page)
    page = Page("Nearest neighbours", f"{result['n']} test videos, {result['n_gallery']} training videos · {result['protocol']}")
    names = list(dict.fromkeys(name for numbers in found.numbers.values() for name in numbers if name != "k"))
    rows = [[method, *(float(numbers[name]) for name in names)] for method, numbers in found.numbers.items()]
    page.table(["method", *(f"{name.replace('r@', 'R@')} (%)" for name in names)], rows, "Of all test videos")
    page.text(_which(len(wrong), len(good), right, config.page.seed, first))
    page.markup("", STYLE)
    films = _Films(config.data.decoder)
    with reporter.progress("pictures", len(wrong) + len(good), "video") as bar:
        for title, queries, total in (
            ("First neighbour of another class", wrong, len(right) - right.sum()),
            ("First neighbour of the same class", good, right.sum()),
        ):
            if len(queries):
                page.section(f"{title}: {len(queries)} of {total}")
            for query in queries:
                page.markup(_query(found, int(query), config.page.neighbours, films))
                bar.advance()
    skip = ("compared", "files", *names)
    page.section("Details").facts({name: _text(value) for name, value in result.items() if name not in skip})
    page.text("Videos are shown as the middle square of frames spread over them; networks may have seen other parts.")
    page.write(path)


def hits(found: Search, method: str) -> np.ndarray:
    """(queries,) bool: whether the first neighbour is of the query's class."""
    return found.gallery.labels[found.nearest(method, 1)[:, 0]] == found.queries.labels


def chosen(right: np.ndarray, config: PageConfig) -> tuple[np.ndarray, np.ndarray]:
    """(wrong, right) queries that are shown, each in increasing order: as many of both, where there are enough.

    Args:
        right: (queries,) bool, see `hits`.
        config: how many, and the seed of the draw.
    """
    rng = np.random.default_rng(config.seed)
    wrong, good = (rng.permutation(np.flatnonzero(which)) for which in (~right, right))
    few = min(len(wrong), max(config.queries // 2, config.queries - len(good)))
    return np.sort(wrong[:few]), np.sort(good[: config.queries - few])


def _which(wrong: int, good: int, right: np.ndarray, seed: int, method: str) -> str:
    share = f"{100 * (1 - right.mean()):.3g} %"
    drawn = f"Below are {wrong + good} of {len(right)} test videos, drawn with seed {seed}: {wrong} with a first neighbour of another class"
    return f"{drawn} by {method}, {good} with one of the same. Of all, {share} have one of another class."


def _query(found: Search, query: int, neighbours: int, films: "_Films") -> str:
    row = found.query_rows[int(found.queries.uids[query])]
    caption = f"<b>{escape(str(row.label))}</b> <span class='name'>{escape(_short(row))}</span>"
    parts = [f"<figure>{films.picture(row, QUERY_FRAMES)}<figcaption>{caption}</figcaption></figure>"]
    for method in found.methods:
        items = "".join(_neighbour(found, method, query, int(place), row, films) for place in found.nearest_of(method, query, neighbours))
        parts.append(f'<h3>{escape(method)}</h3><ol class="nearest">{items}</ol>')
    return f'<article class="query">{"".join(parts)}</article>'


def _neighbour(found: Search, method: str, query: int, place: int, row: Row, films: "_Films") -> str:
    other = found.gallery_rows[int(found.gallery.uids[place])]
    same = other.label == row.label
    verdict = f'<span class="verdict">{"✓" if same else "✗"} {escape(str(other.label))}</span>'
    caption = f'{verdict} {found.methods[method][query, place]:.3f} <span class="name">{escape(_short(other))}</span>'
    figure = f"<figure>{films.picture(other, NEIGHBOUR_FRAMES)}<figcaption>{caption}</figcaption></figure>"
    return f"<li{' class=right' if same else ''}>{figure}</li>"


class _Films:
    """Frames of videos side by side, each video read once."""

    def __init__(self, decoder: str):
        self._decoder = decoder
        self._known: dict[tuple[str, int], str] = {}

    def picture(self, row: Row, frames: int) -> str:
        """An `<img>`, or what is wrong with the video."""
        key = (name_of(row), frames)
        if key not in self._known:
            try:
                film = strip(row, frames, SIDE_PX, self._decoder)
            except VideoError as error:
                self._known[key] = f'<p class="missing">{escape(error.message)}</p>'
            else:
                alt = f"{frames} frames of {_short(row)}"
                self._known[key] = f'<img src="{jpeg_uri(film, frames * SIDE_PX)}" alt="{escape(alt)}" decoding="async">'
        return self._known[key]


def _short(row: Row) -> str:
    """The last two parts of a path: the folder is often the class."""
    return "/".join(Path(name_of(row)).parts[-2:])


def _text(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
