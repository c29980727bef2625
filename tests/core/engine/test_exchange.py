"""Rows of all processes, and the gradient that comes back; runnable: `python test_exchange.py FOLDER` as a process of a world."""

import sys
from pathlib import Path

import torch

from tasks.core.engine.exchange import gather_rows, gather_with_gradient, row_counts
from tasks.core.world import join, world

COUNTS = [3, 2]  # unreadable videos make batches of different sizes


def rows() -> torch.Tensor:
    return torch.randn(sum(COUNTS), 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loss(weight: torch.Tensor, own: torch.Tensor, everything: torch.Tensor, first: int) -> torch.Tensor:
    """Every row against all rows, as contrastive losses do: the sum over this process' rows."""
    similarity = (own @ weight.T) @ everything.T
    return torch.nn.functional.cross_entropy(similarity, torch.arange(first, first + len(own)), reduction="sum")


def gradient() -> torch.Tensor:
    """What one process with all rows gets for the mean over rows."""
    weight = torch.eye(4, dtype=torch.float64, requires_grad=True)
    projected = rows() @ weight.T
    (loss(weight, rows(), projected, 0) / sum(COUNTS)).backward()
    return weight.grad


def of_two(folder: Path) -> None:
    join()
    rank, size = world()
    first = sum(COUNTS[:rank])
    own = rows()[first : first + COUNTS[rank]]
    counts = row_counts(len(own), own.device)
    assert counts == COUNTS
    assert torch.equal(gather_rows(own, counts), rows())
    weight = torch.eye(4, dtype=torch.float64, requires_grad=True)
    everything = gather_with_gradient(own @ weight.T, counts)
    # the mean over processes of these losses is the mean over rows; averaging the gradients is what distributed training does
    (loss(weight, own, everything, first) * size / sum(COUNTS)).backward()
    torch.distributed.all_reduce(weight.grad)
    torch.save(weight.grad / size, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_get_the_gradient_of_one_with_all_rows(tmp_path):
    from worlds import train_in_world  # not on the path of the processes that run this file

    train_in_world(2, __file__, tmp_path)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), gradient(), rtol=1e-12, atol=1e-14)


def test_alone_gathering_is_the_identity():
    own = rows().requires_grad_()
    assert gather_with_gradient(own, [len(own)]) is own


if __name__ == "__main__":
    of_two(Path(sys.argv[1]))
