"""What passes between processes: rows of a batch, and shuffled batches for the key encoder.

With one process everything here is the plain thing. Processes may have different numbers of rows (unreadable videos).
"""

import itertools
from collections.abc import Callable

import torch
import torch.distributed as dist
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
