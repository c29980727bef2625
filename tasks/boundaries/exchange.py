"""What passes between processes: rows of a batch, shuffled batches for the key encoder, and shared batch norm.

With one process everything here is the plain thing. Processes may have different numbers of rows (unreadable videos).
"""

import itertools
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def row_counts(rows: int, device: torch.device) -> list[int]:
    """Rows of every process, by rank."""
    if processes() == 1:
        return [rows]
    told = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(processes())]
    dist.all_gather(told, torch.tensor(rows, device=device))
    return torch.stack(told).tolist()


def gather_rows(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The rows (counts[rank], ...) of every process, by rank; without gradient."""
    if processes() == 1:
        return rows
    padded = F.pad(rows.detach(), (0, 0) * (rows.ndim - 1) + (0, max(counts) - len(rows))).contiguous()
    told = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(told, padded)
    return torch.cat([part[:count] for part, count in zip(told, counts, strict=True)])


def encode_shuffled(
    encode: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, counts: list[int], generator: torch.Generator
) -> torch.Tensor:
    """Encodes rows in other batches than they came in (shuffled batch norm, MoCo section 3.3): a key must not be found by the
    statistics that it shares with its query. With one process there is but one batch.

    Args:
        encode: (n, ...) -> (n, C). rows: of this process, (counts[rank], ...). generator: in the same state everywhere.

    Returns:
        (counts[rank], C).
    """
    world = processes()
    if world == 1:
        return encode(rows)
    rank, total = dist.get_rank(), sum(counts)
    order = torch.randperm(total, generator=generator, device=rows.device)
    edges = [total * r // world for r in range(world + 1)]
    own = order[edges[rank] : edges[rank + 1]]
    encoded = gather_rows(encode(gather_rows(rows, counts)[own]), [b - a for a, b in itertools.pairwise(edges)])
    start = sum(counts[:rank])
    return encoded[order.argsort()[start : start + counts[rank]]]


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


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on any device (torch's own needs CUDA)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> same shape and type; statistics in float32."""
        if not self.training or processes() == 1:
            return super().forward(x)
        values = x.float()
        told = _Sum.apply(torch.cat([values.sum((0, 2, 3)), values.new_tensor([values.numel() / values.shape[1]])]))
        count = told[-1].detach()
        mean = (told[:-1] / count)[:, None, None]
        variance = _Sum.apply((values - mean).square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return ((values - mean) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_norms(module: nn.Module) -> None:
    """Turns every batch norm below `module` into one that all processes share; names and values stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared)
        else:
            share_norms(child)
