"""Dividing a list of videos: a part to train on and a part to test on, or a share of it all."""

from difflib import get_close_matches

import numpy as np

from tasks.core.data.rows import Rows
from tasks.core.errors import UsageError

TRAIN, VAL = "train", "val"


def divide(rows: Rows, share: float, seed: int, group: str | None = None) -> np.ndarray:
    """Which rows to train on: about `share` of every class, or of all rows where whole groups stay together.

    Rows of one video never come apart. Where there are two videos of a class, or two groups, both parts get one.

    Args:
        rows: all of them.
        share: in (0, 1).
        seed: of the draw.
        group: a column (say, the person or the source); rows with the same value stay together. None: only those of one video.

    Returns:
        (n,) bool.

    Raises:
        UsageError: no such column, a row without a value there, or fewer than two groups.
    """
    keys, names = rows.codes(column(rows, group) if group else "path")
    if group and (keys < 0).any():
        raise UsageError(f"{(keys < 0).sum()} of {len(rows)} rows have no {group}", "every row must belong to a group")
    if len(names) < 2:
        raise UsageError(f"there is one {group or 'video'}, which cannot be divided", "choose another --group" if group else None)
    sizes = np.bincount(keys, minlength=len(names))
    first = np.full(len(names), len(rows))
    np.minimum.at(first, keys, np.arange(len(rows)))
    strata = np.zeros(len(names), int) if group else rows.codes("label")[0][first]
    trained = np.zeros(len(names), bool)
    for number in np.unique(strata):
        members = np.random.default_rng([seed, int(number) + 1]).permutation(np.flatnonzero(strata == number))
        trained[_nearest(members, sizes, share)] = True
    if trained.all():  # every class has one video
        trained[np.random.default_rng([seed, 0]).integers(len(names))] = False
    return trained[keys]


def _nearest(members: np.ndarray, sizes: np.ndarray, share: float) -> np.ndarray:
    """Of members in random order those that together come as near as they can to a share of all; one at least, and not all of several."""
    wanted, have, taken = share * sizes[members].sum(), 0, []
    for member in members:
        if abs(have + sizes[member] - wanted) <= abs(have - wanted):
            taken.append(member)
            have += sizes[member]
    if not taken:
        taken = [min(members, key=lambda member: sizes[member])]
    if len(taken) == len(members) > 1:
        taken.remove(min(taken, key=lambda member: sizes[member]))
    return np.array(taken)


def column(rows: Rows, name: str) -> str:
    """The name of a column; UsageError, with the nearest one, where no row has it."""
    if name not in rows.columns:
        near = get_close_matches(name, rows.columns, 1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"there is no column '{name}'", f"{hint}columns: {', '.join(rows.columns)}")
    return name
