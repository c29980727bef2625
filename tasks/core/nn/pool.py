"""Max pooling that remembers no more of a large map than its backward pass needs."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Triple = tuple[int, int, int]


def rectified_max_pool(x: torch.Tensor, kernel: Triple, stride: Triple, padding: Triple) -> torch.Tensor:
    """ReLU and max pooling, in this order or the other, which is the same; gradients too.

    Plain operations keep the large rectified map for the backward pass, and indices of 8 bytes. Here it is the pooled map, which the next
    layer keeps anyway, and indices of 4 bytes.

    Args:
        x: (N, C, T, H, W), before the ReLU; not changed.
        kernel, stride, padding: of time, height and width.

    Returns:
        (N, C, ...), >= 0.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return F.relu(F.max_pool3d(x, kernel, stride, padding), inplace=True)
    return _RectifiedMaxPool.apply(x, kernel, stride, padding)


class _RectifiedMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: Triple, stride: Triple, padding: Triple) -> torch.Tensor:
        pooled, places = F.max_pool3d(x, kernel, stride, padding, return_indices=True)
        pooled = pooled.relu_()
        ctx.shape = x.shape
        ctx.save_for_backward(pooled, places.int())
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        pooled, places = ctx.saved_tensors
        passed = (gradient * (pooled > 0)).flatten(2)
        found = passed.new_zeros(ctx.shape)
        found.flatten(2).scatter_add_(2, places.flatten(2).long(), passed)
        return found, None, None, None
