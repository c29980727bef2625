"""Masked convolutions and attention over sequences, against slow references."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tasks.core.nn.sequence import (
    ConvAttention,
    MaskedConv,
    ScaledDropPath,
    SequenceBlock,
    attend,
    halved,
    halved_by_max,
    sinusoid,
    stretched,
)

B, T, C, HEADS = 2, 37, 8, 2


def sequence(length: int = T, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(B, length, C), torch.arange(length) < torch.tensor([[length], [length - 9]])


@pytest.mark.parametrize("groups", [1, C])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_zero_where_nothing_is_valid_and_that_of_torch_elsewhere(float64, groups: int, stride: int):
    x, mask = sequence(36)
    conv = MaskedConv(C, C, 3, stride, groups)
    expected = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, stride, 1, 1, groups).transpose(1, 2)
    kept = halved(mask, stride)
    found = conv(x, mask)
    assert torch.allclose(found[kept], expected[kept])
    assert found[~kept].eq(0).all()
    assert kept.shape == found.shape[:2]


def test_matrix_products_have_the_gradients_of_a_convolution(float64):
    x, mask = sequence()
    conv = MaskedConv(C, 5, 3)
    plain = torch.nn.Conv1d(C, 5, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    x.requires_grad_()
    draws = torch.randn(B, T, 5)
    (conv(x, mask) * draws).sum().backward()
    own, x.grad = x.grad, None
    (plain(x.transpose(1, 2)).transpose(1, 2) * mask[..., None] * draws).sum().backward()
    assert torch.allclose(own, x.grad)
    assert torch.allclose(conv.weight.grad, plain.weight.grad)
    assert torch.allclose(conv.bias.grad, plain.bias.grad)


def brute_attention(q, k, v, valid, window):
    """One query after the other."""
    out = torch.zeros_like(q)
    for b, h, t in np.ndindex(q.shape[:3]):
        near = [s for s in range(k.shape[2]) if valid[b, s] and (window is None or abs(s - t) <= window // 2)]
        if near:
            scores = (k[b, h, near] @ q[b, h, t]) / math.sqrt(q.shape[-1])
            out[b, h, t] = scores.softmax(0) @ v[b, h, near]
    return out


@pytest.mark.parametrize(("length", "window"), [(37, None), (37, 3), (37, 5), (64, 19), (20, 39), (21, 37), (100, 41)])
def test_attention_near_the_query_is_attention_under_a_band(float64, length: int, window: int | None):
    torch.manual_seed(1)
    q, k, v = (torch.randn(B, HEADS, length, 4) for _ in range(3))
    valid = torch.arange(length) < torch.tensor([[length], [length - 7]])
    found = attend(q, k, v, valid, window).transpose(1, 2)
    assert torch.allclose(found[valid], brute_attention(q, k, v, valid, window).transpose(1, 2)[valid])


def test_attention_near_the_query_takes_memory_of_its_length_times_the_window():
    """A map of all pairs of a million positions would take terabytes."""
    q = torch.randn(1, 1, 200_000, 2)
    assert attend(q, q, q, torch.ones(1, 200_000, dtype=torch.bool), 9).shape == q.shape


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [None, 5])
def test_padding_never_reaches_what_is_valid(float64, stride: int, window: int | None):
    block = SequenceBlock(C, HEADS, stride, window, scale=None).eval()
    for parameter in block.parameters():  # biases of norms are what reaches out of the padding
        torch.nn.init.normal_(parameter, std=0.5)
    x, mask = sequence(40)
    more = F.pad(x, (0, 0, 0, 24)) + 7.0 * ~F.pad(mask, (0, 24))[..., None]
    alone = block(x * mask[..., None], mask)
    padded = block(torch.where(F.pad(mask, (0, 24))[..., None], more, 0.0), F.pad(mask, (0, 24)))
    kept = halved(mask, stride)
    assert torch.allclose(alone[kept], padded[:, : kept.shape[1]][kept], atol=1e-12)
    assert padded[:, kept.shape[1] :].eq(0).all()


def test_queries_may_come_from_another_sequence(float64):
    """Then what is attended to does not depend on whose keys it asks with, only the weights do."""
    torch.manual_seed(0)
    attention = ConvAttention(C, HEADS)
    x, mask = sequence()
    other = torch.randn_like(x)
    assert not torch.allclose(attention(x, mask, other), attention(x, mask))
    same = attention(torch.ones_like(x), mask.new_ones(mask.shape), other)
    inner = same[:, 2:-2]  # equal values away from the ends of the convolution
    ends = attention(torch.ones_like(x), mask.new_ones(mask.shape), torch.zeros_like(x))[:, 2:-2]
    assert inner.shape == ends.shape
    assert not torch.allclose(inner, torch.zeros_like(inner))


def test_a_left_out_branch_is_left_out_for_whole_items_and_the_mean_stays():
    torch.manual_seed(0)
    drop = ScaledDropPath(4, 0.25, 0.5).train()
    found = drop(torch.ones(4000, 3, 4))
    kept = found[:, 0, 0] > 0
    assert torch.equal(found, kept[:, None, None] * torch.full_like(found, 0.5 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(drop.eval()(torch.ones(2, 3, 4)), torch.full((2, 3, 4), 0.5))
    assert ScaledDropPath(4, 0.0, None).scale is None


def test_positions_are_sines_and_cosines_in_pairs_of_channels():
    table = sinusoid(50, 6)
    assert table[7, 2].item() == pytest.approx(math.sin(7 / 10000 ** (2 / 6)), abs=1e-6)
    assert table[7, 3].item() == pytest.approx(math.cos(7 / 10000 ** (2 / 6)), abs=1e-6)
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]


def test_positions_of_longer_sequences_lie_between_the_rows_of_the_table(float64):
    table = torch.randn(10, 4)
    found = stretched(table, torch.tensor([23, 10, 6]), 25)
    expected = F.interpolate(table.T[None], 23, mode="linear", align_corners=False)[0].T
    assert torch.allclose(found[0, :23], expected)
    assert torch.allclose(found[1, :10], table)
    assert torch.allclose(found[2, :6], table[:6])
    assert torch.equal(stretched(table, torch.tensor([6, 3]), 6), table[:6].expand(2, -1, -1))


def test_halving_by_the_largest_neighbour():
    x = torch.randn(2, 12, 3)
    assert torch.equal(halved_by_max(x), F.max_pool1d(x.transpose(1, 2), 3, 2, 1).transpose(1, 2))
