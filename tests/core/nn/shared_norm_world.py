"""Run by every process of a world: `python shared_norm_world.py FOLDER`. Its share of ten rows through a probe's head and back, the result
into FOLDER/rank.pt.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tasks.classify.config import HeadConfig
from tasks.classify.heads import PooledHead
from tasks.core.nn.shared_norm import share_norms

ROWS = torch.randn(10, 1, 6, generator=torch.Generator().manual_seed(0))
SHARES = {1: [10], 2: [1, 9]}
"""Rows of each process; the first of two has a single one."""


def probe(affine: bool) -> PooledHead:
    torch.manual_seed(0)
    head = PooledHead(6, 3, HeadConfig(mode="linear", norm="l2-batch", affine=affine))
    share_norms(head)
    return head.train()


def share(rank: int, processes: int) -> dict[str, torch.Tensor]:
    """Logits and gradient of this process' rows, and the running statistics, of both kinds of head."""
    rows = ROWS.split(SHARES[processes])[rank].clone().requires_grad_()
    found = {}
    for affine in (False, True):
        head = probe(affine)
        logits = head(rows)
        (gradient,) = torch.autograd.grad((logits * torch.tensor([1.0, -2.0, 3.0])).square().sum(), rows)
        running = torch.stack([head.norm.running_mean, head.norm.running_var])
        found |= {f"logits-{affine}": logits.detach(), f"gradient-{affine}": gradient, f"running-{affine}": running[None]}
    return found


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(share(dist.get_rank(), dist.get_world_size()), Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
