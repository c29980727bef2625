"""ReLU and max pooling in one: values and gradients of the plain operations."""

import pytest
import torch
from torch.nn import functional as F

from tasks.core.nn.pool import rectified_max_pool

KERNELS = [((1, 3, 3), (1, 2, 2), (0, 1, 1)), ((3, 3, 3), (2, 2, 2), (1, 1, 1))]


@pytest.mark.parametrize("pool", KERNELS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_values_and_gradients_are_those_of_the_plain_operations(float64, pool, layout):
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 5, 9, 8) - 0.5).contiguous(memory_format=layout).requires_grad_()
    found, expected = rectified_max_pool(x, *pool), F.max_pool3d(F.relu(x), *pool)
    assert torch.equal(found, expected)
    assert (found == 0).any()
    weight = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), x)[0] for out in (found, expected))
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        assert torch.equal(rectified_max_pool(x, *pool), expected)


def test_the_large_map_is_not_kept():
    x, kept = torch.randn(1, 4, 2, 16, 16, requires_grad=True), []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = rectified_max_pool(x, *KERNELS[0])
    assert {tensor.numel() for tensor in kept} == {found.numel()}
    assert max(tensor.element_size() for tensor in kept) == 4
