"""Drawings for reports, as SVG text. Matplotlib is imported when something is drawn; no window system and no global state is used."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a94a0",
    "svg.hashsalt": "vid",
    "svg.fonttype": "path",
}
_COLORS = ("#1f6fb4", "#d1622b", "#2f8f5b", "#8a4fb0", "#b8860b", "#c43d5e", "#3a8fa3", "#6b6f76")


def points(records: Iterable[Mapping[str, Any]], key: str, x: str = "step") -> tuple[list[float], list[float]]:
    """One curve out of the records of a metrics.jsonl.

    Args:
        records: one mapping per line; lines of several kinds may be mixed.
        key: name of the value.
        x: name of the coordinate.

    Returns:
        (xs, ys) of the records that hold both as numbers, in file order; a coordinate that appears again (a resumed run repeats
        steps) keeps its last value. A value that is not finite is kept as nan, which draws as a gap.
    """
    found: dict[float, float] = {}
    for record in records:
        where, value = record.get(x), record.get(key)
        if isinstance(where, int | float) and isinstance(value, int | float) and not isinstance(value, bool):
            found[float(where)] = float(value) if np.isfinite(value) else float("nan")
    return list(found), list(found.values())


def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], ylabel: str, xlabel: str = "step", log: bool = False) -> str:
    """Lines over a common axis.

    Args:
        series: legend entry -> (xs, ys), e.g. from `points`; empty ones are left out.
        ylabel, xlabel: axis titles with unit.
        log: logarithmic vertical axis.

    Returns:
        SVG text.
    """

    def draw(axes: "Axes") -> None:
        drawn = [(name, xs, ys) for name, (xs, ys) in series.items() if len(xs)]
        for i, (name, xs, ys) in enumerate(drawn):
            axes.plot(xs, ys, label=name, color=_COLORS[i % len(_COLORS)], linewidth=1.4, marker="o" if len(xs) < 3 else None, markersize=3)
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
        if len(drawn) > 1:
            axes.legend(frameon=False)
        if not drawn:
            axes.text(0.5, 0.5, "nothing was recorded", ha="center", va="center", transform=axes.transAxes, color="#5d6875")

    return _svg(draw, (6.4, 3.2))


def confusion(matrix: np.ndarray, labels: Sequence[str]) -> str:
    """A confusion matrix: colour is the share of the true class, the number the count.

    Args:
        matrix: (n, n) int, rows true classes, columns predictions.
        labels: n names.

    Returns:
        SVG text. Above 40 classes the numbers, above 60 the names are left out: nobody could read them.
    """
    matrix = np.asarray(matrix)
    n = len(labels)
    if matrix.shape != (n, n):
        raise ValueError(f"{n} labels for a confusion matrix of shape {matrix.shape}")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(12.0, 2.2 + 0.42 * n)

    def draw(axes: "Axes") -> None:
        axes.grid(False)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted", ylabel="true")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if n <= 60:
            axes.set_xticks(range(n), [_short(label) for label in labels], rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(n), [_short(label) for label in labels])
        axes.tick_params(length=0, labelsize=8 if n <= 30 else 6)
        if n <= 40:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                color = "white" if share[row, column] > 0.55 else "#1c2127"
                axes.text(column, row, int(matrix[row, column]), ha="center", va="center", color=color, fontsize=8 if n <= 20 else 5)

    return _svg(draw, (size, size))


def histogram(values: Mapping[str, np.ndarray], label: str, bins: int = 40) -> str:
    """How values are spread, one outline for each kind of them, each with an area of 1.

    Args:
        values: kind -> (n,) numbers; empty ones are left out.
        label: axis title with unit.
        bins: of the range of all values.

    Returns:
        SVG text.
    """
    drawn = {name: np.asarray(found, dtype=float) for name, found in values.items() if len(found)}
    edges = np.histogram_bin_edges(np.concatenate(list(drawn.values())) if drawn else np.zeros(1), bins)

    def draw(axes: "Axes") -> None:
        for i, (name, found) in enumerate(drawn.items()):
            axes.hist(found, edges, density=True, histtype="stepfilled", alpha=0.45, color=_COLORS[i % len(_COLORS)], label=name)
        axes.set(xlabel=label, ylabel="density")
        axes.legend(frameon=False)

    return _svg(draw, (6.4, 3.2))


def bars(values: Mapping[str, float | Sequence[float]], chance: float | None = None, label: str = "top-1 (%)") -> str:
    """Horizontal bars with their numbers, and a dashed line at chance level.

    Args:
        values: name -> one number, or several (e.g. one per seed), shown as mean, range and dots.
        chance: position of the line, in the values' unit.
        label: axis title with unit.

    Returns:
        SVG text.
    """
    names = list(values)
    runs = [np.atleast_1d(np.asarray(value, dtype=float)) for value in values.values()]
    means = [float(run.mean()) for run in runs]

    def draw(axes: "Axes") -> None:
        axes.grid(False, axis="y")
        axes.barh(names, means, color=[_COLORS[i % len(_COLORS)] for i in range(len(names))], height=0.6, alpha=0.85)
        for place, (run, mean) in enumerate(zip(runs, means, strict=True)):
            if len(run) > 1:
                axes.plot(run, [place] * len(run), "o", color="#1c2127", markersize=3)
            text = f"{mean:.1f}" if len(run) == 1 else f"{mean:.1f} ({run.min():.1f}–{run.max():.1f})"
            axes.annotate(text, (float(run.max()), place), xytext=(5, 0), textcoords="offset points", va="center")
        if chance is not None:
            axes.axvline(chance, color="#1c2127", linestyle="--", linewidth=1)
            place = {"xycoords": ("data", "axes fraction"), "xytext": (3, 3), "textcoords": "offset points"}
            axes.annotate(f"chance {chance:.1f}", (chance, 1), fontsize=8, **place)
        axes.invert_yaxis()
        axes.margins(x=0.2)
        axes.set_xlabel(label)

    return _svg(draw, (6.4, 0.9 + 0.42 * max(1, len(names))))


def _short(label: str, length: int = 24) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def _svg(draw: Callable[["Axes"], None], size: tuple[float, float]) -> str:
    """Run `draw(axes)` on a new figure of `size` inches. The text depends on what is drawn only: no date, fixed element names."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
