"""Batch norm over the batches of all processes, on any device (torch's `SyncBatchNorm` needs CUDA)."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.core.nn.precision import full_precision


class _Sum(torch.autograd.Function):
    """Sum over processes, forwards and backwards."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(_BatchNorm):
    """Batch norm of (N, C, ...) whose statistics are those of all processes together; processes may differ in N.

    Attributes:
        of_batch: in evaluation mode too it takes the statistics of its own batch (`core.nn.r2d3d.BlockNorm`).
    """

    of_batch = False

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"batch norm of a tensor of {x.ndim} dimensions")

    def shares(self) -> bool:
        """Whether its statistics come from several processes now."""
        return self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> same shape and type; statistics in float32."""
        if self.of_batch and not self.training:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if not self.shares():
            return super().forward(x)
        values = full_precision(x)
        over = (0, *range(2, x.ndim))
        column = (-1, *(1,) * (x.ndim - 2))
        told = _Sum.apply(torch.cat([values.sum(over), values.new_tensor([values.numel() / values.shape[1]])]))
        count = told[-1].detach()
        mean = (told[:-1] / count).view(column)
        variance = _Sum.apply((values - mean).square().sum(over)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.flatten(), weight)
            self.running_var.lerp_((variance * count / (count - 1).clamp(min=1)).flatten(), weight)
        scale, shift = (variance + self.eps).rsqrt(), 0.0
        if self.affine:
            scale, shift = self.weight * scale, self.bias.view(column)
        return ((values - mean) * scale.view(column) + shift).to(x.dtype)


def batch_normed(norm: _BatchNorm, x: torch.Tensor) -> torch.Tensor:
    """Batch norm of `(N, C, ...)`. A single value per channel has no statistics; it is normalised with the running ones."""
    if not norm.training or x.numel() > x.shape[1] or (isinstance(norm, SharedBatchNorm) and norm.shares()):
        return norm(x)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


def share_norms(module: nn.Module) -> None:
    """Turns every batch norm below `module` into one that all processes share; names and values stay."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            shared.load_state_dict(child.state_dict())
            shared.of_batch = getattr(child, "of_batch", False)
            setattr(module, name, shared)
        else:
            share_norms(child)
