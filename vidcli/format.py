"""Values as text: tables, durations, JSON that every parser takes."""

import math
from collections.abc import Mapping, Sequence
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


def aligned(rows: Sequence[Mapping[str, Any]], columns: list[str]) -> str:
    """Columns of text, two spaces between them, numbers to the right; no cell is cut, so it can be piped."""
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    numeric = [all(isinstance(row.get(c), int | float | None) and not isinstance(row.get(c), bool) for row in rows) for c in columns]
    lines = [columns, *cells] if any(column.strip() for column in columns) else cells
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    pick = [str.rjust if right else str.ljust for right in numeric]
    return "\n".join("  ".join(pick[i](line[i], widths[i]) for i in range(len(columns))).rstrip() for line in lines)
