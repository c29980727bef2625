"""The median filter against numpy's median of every window."""

import numpy as np
import pytest
import torch

from tasks.core.flow.median import median_filter


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (13, 6)])
def test_every_window_with_the_border_repeated(side, size):
    planes = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    reach = side // 2
    padded = np.pad(planes.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    assert np.array_equal(median_filter(planes, side).numpy(), np.median(windows, axis=(4, 5)))


@pytest.mark.parametrize("side", [3, 5])
def test_right_for_all_orders(side):
    """A comparator network that is right on zeros and ones is right on all numbers; columns are sorted first, so their counts suffice."""
    counts = torch.cartesian_prod(*[torch.arange(side + 1)] * side)
    windows = (torch.arange(side)[None, :, None] < counts[:, None, :]).float()
    centre = median_filter(windows[:, None], side)[:, 0, side // 2, side // 2]
    assert torch.equal(centre, (counts.sum(1) > side * side // 2).float())
