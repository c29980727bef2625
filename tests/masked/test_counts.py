"""Full-sized steps, counted on tensors without numbers: the bench's books, what the plan says of memory, what the samplers cost."""

import argparse
from functools import cache

import pytest
import torch
from benches.ledger import Ledger, book, faked
from benches.masked_model import OURS, our_step, row_config, settings
from torch._subclasses.fake_tensor import FakeTensorMode

from tasks.core.engine.plan import GIB, memory_lines
from tasks.masked.method import MaskedPretraining
from tasks.masked.workload import workload

CLIPS = 32


@cache
def full_size(name: str) -> tuple[Ledger, float]:
    """The books of a step of ViT-B on 32 clips, and the bytes that the plan tells."""
    config = row_config(name, settings(argparse.Namespace(preset="masked/tats-vitb-k400-rho90")))
    with torch.device("meta"):
        method = MaskedPretraining(config).train()
    books = book(lambda: our_step(faked(method), CLIPS, torch.device("cpu"), bf16=True))
    return books, GIB * sum(line.value for line in memory_lines(workload(config, 0), config, 1))


@pytest.mark.parametrize("name", OURS)
def test_the_plan_tells_the_memory_of_a_step(name):
    books, told = full_size(name)
    assert 0.92 < told / books.peak < 1.08


def test_a_narrow_exact_policy_costs_little_memory_and_time():
    """Goals of the suite beside VideoMAE: 1.15 times the memory, 1.25 times the step; the latter by the least time of an H200."""
    (plain, _), (narrow, _) = full_size("VideoMAE"), full_size("TATS, exact, policy a third as wide")
    assert narrow.peak < 1.15 * plain.peak
    assert narrow.least_s(790e12, 4.3e12) < 1.25 * plain.least_s(790e12, 4.3e12)


def test_without_the_graph_the_paper_s_policy_costs_little_memory():
    assert full_size("TATS, keep_graph: false")[0].peak < 1.15 * full_size("VideoMAE")[0].peak


def test_books_of_a_small_computation():
    with FakeTensorMode(), Ledger() as books:
        a = torch.empty(100, 50)
        b = a.t() @ a  # 50 x 50
        assert (books.live, books.flops, books.kernels) == (4 * (5000 + 2500), 2 * 50 * 50 * 100, 1)
        assert books.bytes == 4 * (2 * 5000 + 2500)
        del a
        c = b + 1
        del b
        assert (books.live, books.peak) == (4 * 2500, 4 * (5000 + 2500))
        books.restart()
        assert (books.peak, books.kernels) == (books.live, 0)
        assert c[0].sum().shape == ()
        assert books.bytes == 4 * (50 + 1)
