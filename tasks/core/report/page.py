"""Self-contained HTML pages: text, tables and pictures in one file that opens anywhere and fetches nothing."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from tasks.core import files

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2127; --dim: #5d6875; --line: #d5dae0; --mark: #eef4fb; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e3e7ec; --dim: #98a3b0; --line: #333b45; --mark: #1d2935; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
h1, h2, p, figcaption { overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; }
.subtitle, figcaption, caption { color: var(--dim); font-size: .9rem; text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .35rem; }
th, td { padding: .3rem .9rem .3rem .3rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; }
tr.marked td { background: var(--mark); font-weight: 600; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1rem; margin: 1rem 0; }
.gallery figure { margin: 0; }
.gallery img { width: 100%; }
.wide img { width: 100%; image-rendering: auto; }
pre { overflow-x: auto; padding: .6rem .8rem; background: var(--mark); font-size: .85rem; }
"""


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(image: bytes | str, caption: str = "", alt: str = "") -> str:
    if isinstance(image, str) and "<svg" in image:
        kind, data = "svg+xml", image.encode()
    elif isinstance(image, bytes) and image.startswith(b"\x89PNG"):
        kind, data = "png", image
    elif isinstance(image, bytes) and image.startswith(b"\xff\xd8"):
        kind, data = "jpeg", image
    else:
        raise ValueError("a figure is PNG or JPEG bytes or SVG text")
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt or caption)}">{below}</figure>'


class Page:
    """A page that is built from top to bottom; each method adds one thing and returns the page.

    All text is escaped: a label or path from a user's data cannot become markup.

    Args:
        title: heading, and name of the browser tab.
        subtitle: one line below the heading.
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title = title
        self._styles = [_STYLE]
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if subtitle:
            self._parts.append(f'<p class="subtitle">{escape(subtitle)}</p>')

    def section(self, title: str) -> "Page":
        """A heading."""
        return self._add(f"<h2>{escape(title)}</h2>")

    def text(self, text: str) -> "Page":
        """Paragraphs, separated by blank lines."""
        paragraphs = (part.strip() for part in text.split("\n\n"))
        return self._add("".join(f"<p>{escape(part)}</p>" for part in paragraphs if part))

    def code(self, text: str) -> "Page":
        """Preformatted text, e.g. the command that made a result."""
        return self._add(f"<pre>{escape(text)}</pre>")

    def facts(self, facts: Mapping[str, object]) -> "Page":
        """Names and values as a table of two columns."""
        return self.table(None, list(facts.items()))

    def table(
        self,
        header: Sequence[str] | None,
        rows: Sequence[Sequence[object]],
        caption: str = "",
        marked: Sequence[int] = (),
    ) -> "Page":
        """A table. Floats get four significant digits, None a dash; columns of numbers stand right-aligned.

        Args:
            header: column names, or None for a table without.
            rows: cells.
            caption: one line above.
            marked: numbers of the rows to stand out, from 0.
        """
        width = max((len(row) for row in rows), default=len(header or ()))
        numeric = [
            any(isinstance(row[i], int | float) for row in rows if i < len(row))
            and all(row[i] is None or isinstance(row[i], int | float) for row in rows if i < len(row))
            for i in range(width)
        ]

        def cells(tag: str, values: Sequence[object]) -> str:
            classes = (' class="number"' if i < width and numeric[i] else "" for i in range(len(values)))
            return "".join(f"<{tag}{extra}>{escape(_cell(value))}</{tag}>" for extra, value in zip(classes, values, strict=True))

        head = f"<thead><tr>{cells('th', header)}</tr></thead>" if header else ""
        tags = ('<tr class="marked">' if i in marked else "<tr>" for i in range(len(rows)))
        body = "".join(f"{tag}{cells('td', row)}</tr>" for tag, row in zip(tags, rows, strict=True))
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        return self._add(f'<div class="scroll"><table>{title}{head}<tbody>{body}</tbody></table></div>')

    def figure(self, image: bytes | str, caption: str = "", alt: str = "") -> "Page":
        """A picture, stored in the page.

        Args:
            image: PNG or JPEG bytes, or the text of an SVG drawing.
            caption: text below.
            alt: text for those who cannot see it; the caption if empty.

        Raises:
            ValueError: none of these.
        """
        return self._add(_figure(image, caption, alt))

    def wide(self, image: bytes | str, caption: str = "", alt: str = "") -> "Page":
        """The same, as wide as the page."""
        return self._add(f'<div class="wide">{_figure(image, caption, alt)}</div>')

    def gallery(self, figures: Sequence[tuple[bytes | str, str]]) -> "Page":
        """Pictures with captions beside each other, as many as there is room for; arguments and errors as `figure`."""
        return self._add(f'<div class="gallery">{"".join(_figure(image, caption) for image, caption in figures)}</div>')

    def markup(self, html: str, style: str = "") -> "Page":
        """HTML as it stands, for what the other methods cannot draw. Whoever calls escapes what comes from a user's data.

        Args:
            html: elements.
            style: CSS for them.
        """
        self._styles.append(style)
        return self._add(html)

    def html(self) -> str:
        """The whole page."""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{''.join(self._styles)}</style>\n</head>\n<body>\n"
            + "\n".join(self._parts)
            + "\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Writes the page; it appears whole or not at all. Makes the folder."""
        files.write_text(path, self.html())
        return path

    def _add(self, part: str) -> "Page":
        self._parts.append(part)
        return self
