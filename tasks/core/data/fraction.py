"""A share of the training rows: how well does a model learn from few labels?"""

import numpy as np

from tasks.core.data.rows import Rows


def draw_fraction(rows: Rows, fraction: float, seed: int) -> Rows:
    """The same share of every class, and of the rows without a label, in the order of the list.

    Of n rows `fraction * n` are drawn, rounded to the nearest whole number, and at least one. With the same seed a smaller share is part
    of a larger one, so that a curve over shares adds labels and exchanges none.

    Args:
        rows: all of them.
        fraction: in (0, 1].
        seed: of the draw, which depends on nothing else than the rows.
    """
    if fraction == 1:
        return rows
    classes, names = rows.codes("label")
    kept = np.zeros(len(rows), dtype=bool)
    for number in range(-1, len(names)):
        members = np.flatnonzero(classes == number)
        if len(members):
            count = max(1, int(np.floor(fraction * len(members) + 0.5)))
            kept[np.random.default_rng([seed, number + 1]).permutation(members)[:count]] = True
    return rows.at(kept)


def fraction_text(fraction: float, seed: int) -> str:
    """What a log or a model card says of a draw; empty where all rows are used."""
    return "" if fraction == 1 else f"{100 * fraction:g} % of every class, drawn with seed {seed}"
