"""Median filter of small odd windows by a comparator network: minima and maxima of whole planes, the same on every device."""

from collections.abc import Iterable, Sequence
from functools import cache, reduce

import torch
import torch.nn.functional as F
from torch import Tensor

# comparators (i, j), i < j: the smaller value goes to i; all of them in order sort 3 or 5 values
_NETWORKS = {
    3: ((0, 1), (1, 2), (0, 1)),
    5: ((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2)),
}


@cache
def _comparators(n: int, wanted: frozenset[int]) -> tuple[tuple[int, int, bool, bool], ...]:
    """The part of the network for `n` values that the ranks `wanted` depend on: (i, j, minimum needed, maximum needed)."""
    needed = set(wanted)
    plan = []
    for i, j in reversed(_NETWORKS[n]):
        if i in needed or j in needed:
            plan.append((i, j, i in needed, j in needed))
            needed |= {i, j}
    return tuple(reversed(plan))


def _sort(values: Sequence[Tensor], wanted: Iterable[int]) -> list[Tensor]:
    """Values by rank, element by element; only the ranks `wanted` are right."""
    values = list(values)
    for i, j, low, high in _comparators(len(values), frozenset(wanted)):
        a, b = values[i], values[j]
        if low:
            values[i] = torch.minimum(a, b)
        if high:
            values[j] = torch.maximum(a, b)
    return values


def median_filter(planes: Tensor, side: int) -> Tensor:
    """Median over a square window; beyond the border the nearest pixel counts.

    The columns of the window are sorted, then the rows of equal rank. Of what is now a table with ascending rows and columns, three
    anti-diagonals remain: the median of the window is that of the largest value just above the main anti-diagonal, the median of the main
    one, and the smallest just below (checked over all 252 tables of zeros and ones for 5 x 5, which proves it for numbers).

    Args:
        planes: `(N, C, H, W)` float.
        side: 1, 3 or 5 px.

    Returns:
        the same shape.
    """
    if side == 1:
        return planes
    height, width = planes.shape[-2:]
    padded = F.pad(planes, [side // 2] * 4, mode="replicate")
    columns = _sort([padded[..., y : y + height, :] for y in range(side)], range(side))
    diagonals: dict[int, list[Tensor]] = {side - 2: [], side - 1: [], side: []}
    for i, rank in enumerate(columns):
        places = {total: total - i for total in diagonals if 0 <= total - i < side}
        row = _sort([rank[..., x : x + width] for x in range(side)], places.values())
        for total, place in places.items():
            diagonals[total].append(row[place])
    low = reduce(torch.maximum, diagonals[side - 2])
    middle = _sort(diagonals[side - 1], [side // 2])[side // 2]
    high = reduce(torch.minimum, diagonals[side])
    return torch.maximum(torch.minimum(low, middle), torch.minimum(torch.maximum(low, middle), high))
