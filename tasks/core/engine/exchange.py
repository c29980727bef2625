"""What passes between processes: rows of a batch, and shuffled batches for the key encoder.

With one process everything here is the plain thing. Processes may have different numbers of rows (unreadable videos).
"""

import itertools
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.nn import functional as F

from tasks.core.world import world


def agree(*values: int, device: torch.device | str = "cpu") -> list[int]:
    """The largest of each value over all processes: a flag that one has set, the signal that one has received."""
    if world().size == 1:
        return list(values)
    largest = torch.tensor([int(value) for value in values], device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.tolist()


def row_counts(rows: int, device: torch.device) -> list[int]:
    """Rows of every process, by rank."""
    if world().size == 1:
        return [rows]
    told = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(world().size)]
    dist.all_gather(told, torch.tensor(rows, device=device))
    return torch.stack(told).tolist()


def gather_rows(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The rows (counts[rank], ...) of every process, by rank; without gradient."""
    if world().size == 1:
        return rows
    padded = F.pad(rows.detach(), (0, 0) * (rows.ndim - 1) + (0, max(counts) - len(rows))).contiguous()
    told = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(told, padded)
    return torch.cat([part[:count] for part, count in zip(told, counts, strict=True)])


def gather_with_gradient(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """As `gather_rows`, and a gradient that reaches the rows of every process.

    Each process gets the sum over all processes of the gradients with respect to its own rows. Distributed training averages the gradients
    of weights over W processes, and so does the mean over processes of losses that were each made from all rows: with per-process losses
    L_r the weights follow the gradient of (1/W) sum_r L_r, as one process with all rows would.
    """
    return rows if world().size == 1 else _Gather.apply(rows, counts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        context.counts = counts
        return gather_rows(rows, counts)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        start = sum(context.counts[: world().rank])
        return total[start : start + context.counts[world().rank]], None


def encode_shuffled(
    encode: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, counts: list[int], generator: torch.Generator
) -> torch.Tensor:
    """Encodes rows in other batches than they came in (shuffled batch norm, MoCo section 3.3): a key must not be found by the
    statistics that it shares with its query. With one process there is but one batch.

    Args:
        encode: (n, ...) -> (n, C).
        rows: of this process, (counts[rank], ...).
        generator: in the same state everywhere.

    Returns:
        (counts[rank], C).
    """
    rank, size = world()
    if size == 1:
        return encode(rows)
    total = sum(counts)
    order = torch.randperm(total, generator=generator, device=rows.device)
    edges = [total * r // size for r in range(size + 1)]
    own = order[edges[rank] : edges[rank + 1]]
    encoded = gather_rows(encode(gather_rows(rows, counts)[own]), [b - a for a, b in itertools.pairwise(edges)])
    start = sum(counts[:rank])
    return encoded[order.argsort()[start : start + counts[rank]]]
