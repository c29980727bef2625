"""Values as text: tables, durations, JSON that every parser takes."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any


def rate(count: int, seconds: float, unit: str) -> str:
    """Speed as `3 step/s`, or `2 s/step` when slow; empty where nothing was done yet."""
    if count <= 0 or seconds <= 0:
        return ""
    per_second = count / seconds
    return f"{per_second:.3g} {unit}/s" if per_second >= 1 else f"{1 / per_second:.3g} s/{unit}"


def duration(seconds: float) -> str:
    """`m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def metrics_text(metrics: Mapping[str, float]) -> str:
    """`name value` pairs."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def strict(value: Any) -> Any:
    """What JSON can hold: numbers that are not finite become null, arrays lists, everything else text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def cell(value: Any) -> str:
    """One value of a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    return str(value)


def aligned(
    rows: Sequence[Mapping[str, Any]], columns: list[str], width: int | None = None, colours: Sequence[str | None] | None = None
) -> str:
    """Columns of text, two spaces between them, numbers to the right.

    Args:
        rows: column -> value.
        columns: those that are shown.
        width: of the terminal: wide columns of text are wrapped between words until the table fits, words that are wider (paths) lose
            their beginning. None: no cell is changed, so that it can be piped.
        colours: of each row, the codes of a terminal; None: all are plain.
    """
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(isinstance(row.get(c), int | float | None) and not isinstance(row.get(c), bool) for row in rows) for c in columns]
    lines = [columns, *cells] if any(column.strip() for column in columns) else cells
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    if width is not None:
        room = width - len(GAP) * (len(columns) - 1)
        words = [max((len(word) for line in lines for word in line[i].split()), default=0) for i in range(len(columns))]
        for least in (words, [min(LEAST, word) for word in words]):  # words are cut where nothing else helps
            widths = fitted(widths, [None if right else low for right, low in zip(numeric, least, strict=True)], room)
    pick = [str.rjust if right else str.ljust for right in numeric]
    plain = [None] * (len(lines) - len(rows))
    shown = []
    for line, colour in zip(lines, [*plain, *(colours or [None] * len(rows))], strict=True):
        for parts in zip_longest(*map(wrapped, line, widths), fillvalue=""):
            text = GAP.join(pick[i](parts[i], widths[i]) for i in range(len(columns))).rstrip()
            shown.append(f"{colour}{text}\x1b[0m" if colour else text)
    return "\n".join(shown)


GAP, LEAST = "  ", 8


def fitted(widths: Sequence[int], least: Sequence[int | None], room: int) -> list[int]:
    """Widths of columns that together need no more than `room`, where that is possible: the widest that may shrink do.

    Args:
        widths: as wide as the texts are.
        least: what each may shrink to; None: not at all.
        room: characters.
    """
    found = list(widths)
    while sum(found) > room:
        free = [i for i, low in enumerate(least) if low is not None and found[i] > low]
        if not free:
            return found
        widest = max(free, key=lambda i: found[i])
        found[widest] -= 1
    return found


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, divided between words; a longer word keeps its end behind an ellipsis."""
    if len(text) <= width:
        return [text]
    words = " ".join(word if len(word) <= width else f"…{word[len(word) - width + 1 :]}" for word in text.split())
    return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
