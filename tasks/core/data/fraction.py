"""Fewer training rows than there are, and more: a share of every class, and as many of every class."""

import numpy as np

from tasks.core.data.rows import Rows


def draw_fraction(rows: Rows, fraction: float, seed: int, stratify: str | None = "label") -> Rows:
    """The same share of every class, and of the rows without a label, in the order of the list.

    Of n rows `fraction * n` are drawn, rounded to the nearest whole number, and at least one. With the same seed a smaller share is part
    of a larger one, so that a curve over shares adds labels and exchanges none.

    Args:
        rows: all of them.
        fraction: in (0, 1].
        seed: of the draw, which depends on nothing else than the rows.
        stratify: the column whose values are the classes; None: all rows are one.
    """
    if fraction == 1:
        return rows
    classes, names = rows.codes(stratify) if stratify else (np.zeros(len(rows), int), ["all"])
    kept = np.zeros(len(rows), dtype=bool)
    for number in range(-1, len(names)):
        members = np.flatnonzero(classes == number)
        if len(members):
            count = max(1, int(np.floor(fraction * len(members) + 0.5)))
            kept[np.random.default_rng([seed, number + 1]).permutation(members)[:count]] = True
    return rows.at(kept)


def balance_classes(rows: Rows, seed: int) -> Rows:
    """As many rows of every class as the largest has: those of the others occur several times, as evenly as they can.

    Args:
        rows: all with a label; a list without labels is one class, and is left alone.
        seed: of the choice of rows that occur once more than others.
    """
    classes, names = rows.codes("label")
    counts = np.bincount(classes + 1, minlength=len(names) + 1)
    most, places = counts.max(), []
    for number in np.flatnonzero(counts) - 1:
        members = np.flatnonzero(classes == number)
        whole, rest = divmod(most, len(members))
        more = np.random.default_rng([seed, int(number) + 1]).permutation(members)[:rest]
        places += [np.repeat(members, whole), more]
    return rows if most * np.count_nonzero(counts) == len(rows) else rows.at(np.sort(np.concatenate(places)))


def fraction_text(fraction: float, seed: int) -> str:
    """What a log or a model card says of a draw; empty where all rows are used."""
    return "" if fraction == 1 else f"{100 * fraction:g} % of every class, drawn with seed {seed}"
