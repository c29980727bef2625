"""Blocks over sequences of features: masked convolutions, convolutional attention over all or near positions, transformer blocks.

Sequences are (B, T, C), so that norms and projections work on contiguous channels; masks are (B, T) bool, True where a position is valid.
Source of the blocks: ActionFormer (Zhang et al., ECCV 2022, section 3.2).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable


def halved(mask: torch.Tensor, stride: int) -> torch.Tensor:
    """The mask (B, T) of a sequence of which every `stride`-th position is kept, (B, T / stride)."""
    return mask if stride == 1 else mask[:, ::stride]


def masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Zeros where the mask (B, T) is False."""
    return x * mask[..., None].to(x.dtype)


def sinusoid(length: int, dim: int) -> torch.Tensor:
    """(length, dim) sine-cosine positions in pairs of channels, float32."""
    rates = 10000.0 ** (-2 * (torch.arange(dim, dtype=torch.float64) // 2) / dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.where(torch.arange(dim) % 2 == 0, angles.sin(), angles.cos()).float()


def stretched(table: torch.Tensor, lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Rows of a table of positions for sequences; those of a sequence longer than the table are between its rows.

    Args:
        table: (P, C).
        lengths: (B,) int64, of the sequences.
        size: T, to which they are padded.

    Returns:
        (B, T, C).
    """
    rows = len(table)
    if size <= rows:
        return table[None, :size].expand(len(lengths), -1, -1)
    at = torch.arange(size, device=table.device)
    share = (rows / lengths.double()).clamp(max=1)[:, None]
    places = ((at + 0.5) * share - 0.5).clamp(0, rows - 1)
    low = places.floor().long()
    part = (places - low)[..., None].to(table.dtype)
    return table[low] * (1 - part) + table[(low + 1).clamp(max=rows - 1)] * part


def halved_by_max(x: torch.Tensor) -> torch.Tensor:
    """(B, T, C) -> (B, T / 2, C): the largest of positions 2 i - 1, 2 i and 2 i + 1, those that are there."""
    even, odd = x[:, ::2], x[:, 1::2]
    before = torch.cat([even[:, :1], odd[:, :-1]], 1)
    return torch.maximum(torch.maximum(even, odd), before)


class _Taps(torch.autograd.Function):
    """A convolution over (B, T, C) as a sum of matrix products, one for each place of the kernel: on a CPU there are no copies to and from
    channels first, which cost as much as a fifth of the product.
    """

    @staticmethod
    def forward(context, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        size, length, channels = x.shape
        reach = weight.shape[2] // 2
        rows = F.pad(x, (0, 0, reach, reach)).view(-1, channels)  # behind one another: what is between two sequences is cut off below
        out = rows.new_empty(len(rows), weight.shape[0])
        n = len(rows) - 2 * reach
        torch.mm(rows[:n], weight[:, :, 0].T, out=out[:n])
        for place in range(1, weight.shape[2]):
            out[:n].addmm_(rows[place : place + n], weight[:, :, place].T)
        context.save_for_backward(rows, weight)
        context.shape = (size, length, reach)
        return out.view(size, length + 2 * reach, -1)[:, :length]

    @staticmethod
    @once_differentiable
    def backward(context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        rows, weight = context.saved_tensors
        size, length, reach = context.shape
        n = len(rows) - 2 * reach
        gradient = F.pad(gradient, (0, 0, 0, 2 * reach)).view(len(rows), -1)[:n]
        of_x = of_weight = None
        if context.needs_input_grad[0]:
            of_rows = torch.zeros_like(rows)
            for place in range(weight.shape[2]):
                of_rows[place : place + n].addmm_(gradient, weight[:, :, place])
            of_x = of_rows.view(size, length + 2 * reach, -1)[:, reach : reach + length]
        if context.needs_input_grad[1]:
            of_weight = torch.stack([gradient.T @ rows[place : place + n] for place in range(weight.shape[2])]).permute(1, 2, 0)
        return of_x, of_weight


class MaskedConv(nn.Conv1d):
    """A convolution of odd width over (B, T, C) whose output is zero where it is not valid.

    T divides by the stride; output i lies at position i * stride.
    """

    def __init__(self, inside: int, outside: int, kernel: int = 3, stride: int = 1, groups: int = 1, bias: bool = True):
        super().__init__(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=bias)
        if bias:
            nn.init.zeros_(self.bias)
        if groups == 1:  # in memory one place of the kernel behind the other, as matrix products want them
            self.weight = nn.Parameter(self.weight.detach().permute(2, 0, 1).contiguous().permute(1, 2, 0))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, C), (B, T) -> (B, T / stride, C')."""
        near = x.device.type == "cpu" and x.stride(-1) == 1 and not torch.is_autocast_enabled("cpu")
        if near and self.groups == 1 and self.stride == (1,):
            out = _Taps.apply(x, self.weight)
            out = out if self.bias is None else out + self.bias
        elif self.groups == 1:
            out = super().forward(x.transpose(1, 2)).transpose(1, 2)
        else:  # one channel at a time: a picture of height 1 with its channels last needs no copies
            picture = x.transpose(1, 2).unsqueeze(2)
            steps, padding = (1, self.stride[0]), (0, self.padding[0])
            out = F.conv2d(picture, self.weight.unsqueeze(2), self.bias, steps, padding, groups=self.groups).squeeze(2).transpose(1, 2)
        return masked(out, halved(mask, self.stride[0]))


class ScaledDropPath(nn.Module):
    """Leaves out a branch of whole items in training; its channels have learned factors, also in testing.

    Args:
        dim: channels.
        rate: probability of leaving out.
        init: first value of the factors (LayerScale, Touvron et al., 2021); None: no factors.
    """

    def __init__(self, dim: int, rate: float, init: float | None):
        super().__init__()
        self.rate = rate
        self.scale = nn.Parameter(torch.full((dim,), init)) if init is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is not None:
            x = x * self.scale
        if not self.rate or not self.training:
            return x
        kept = torch.rand(len(x), 1, 1, dtype=x.dtype, device=x.device) >= self.rate
        return x * (kept.to(x.dtype) / (1 - self.rate))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, valid: torch.Tensor, window: int | None = None) -> torch.Tensor:
    """Scaled dot-product attention over valid keys, all or those near the query.

    Args:
        q: (B, H, T, d).
        k, v: (B, H, S, d); S = T where there is a window.
        valid: (B, S) bool, of the keys; at least one per row.
        window: odd number of positions around its own that a query sees; None: all. What an invalid query sees is not defined then.
    """
    if window is None or window // 2 >= q.shape[2] - 1:
        return F.scaled_dot_product_attention(q, k, v, valid[:, None, None])
    reach, length = window // 2, q.shape[2]
    block = max(16, reach)  # queries that share their keys
    blocks = -(-length // block)
    rest = blocks * block - length
    q, k, v = (F.pad(x, (0, 0, 0, rest)).unflatten(2, (blocks, block)) for x in (q, k, v))
    k, v = (_with_neighbours(x, reach) for x in (k, v))
    seen = _with_neighbours(F.pad(valid, (0, rest)).view(len(valid), 1, blocks, block, 1), reach)[:, 0, ..., 0]
    apart = torch.arange(block + 2 * reach, device=q.device) - reach - torch.arange(block, device=q.device)[:, None]
    allowed = (apart.abs() <= reach) & seen[:, :, None] | (apart == 0)
    return F.scaled_dot_product_attention(q, k, v, allowed[:, None]).flatten(2, 3)[:, :, :length]


def _with_neighbours(blocks: torch.Tensor, reach: int) -> torch.Tensor:
    """Blocks (B, H, N, n, d) with the last `reach` positions of the block before and the first of the one behind, zeros at the ends."""
    before = F.pad(blocks[:, :, :-1, -reach:], (0, 0, 0, 0, 1, 0))
    behind = F.pad(blocks[:, :, 1:, :reach], (0, 0, 0, 0, 0, 1))
    return torch.cat([before, blocks, behind], 3)


class ConvAttention(nn.Module):
    """Attention whose queries, keys and values come out of depth-wise convolutions with norms, which may also thin out the sequence.

    Args:
        dim: channels.
        heads: of them.
        stride: of the convolutions; queries, keys and values are thinned out alike.
        window: as in `attend`.
    """

    def __init__(self, dim: int, heads: int, stride: int = 1, window: int | None = None):
        super().__init__()
        self.heads, self.stride, self.window = heads, stride, window
        for name in ("query", "key", "value"):
            self.add_module(f"{name}_conv", MaskedConv(dim, dim, 3, stride, dim, bias=False))
            self.add_module(f"{name}_norm", nn.LayerNorm(dim))
            self.add_module(name, _linear(dim, dim))
        self.proj = _linear(dim, dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, asking: torch.Tensor | None = None) -> torch.Tensor:
        """Keys and values of `x` (B, T, C), queries of `asking` (B, T, C) or of `x` too -> (B, T / stride, C), zero where not valid."""
        valid = halved(mask, self.stride)
        q = self.query(self.query_norm(self.query_conv(x if asking is None else asking, mask)))
        k = self.key(self.key_norm(self.key_conv(x, mask)))
        v = self.value(self.value_norm(self.value_conv(x, mask)))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        out = attend(q, k, v, valid, self.window)
        return masked(self.proj(out.transpose(1, 2).flatten(2)), valid)


class SequenceBlock(nn.Module):
    """Pre-norm transformer block with convolutional attention; with a stride it halves the sequence, its skip by max pooling.

    Args:
        dim: channels.
        heads: of the attention.
        stride: 1 or 2.
        window: as in `attend`.
        drop_path, scale: as `ScaledDropPath` takes them.
        own_query_norm: queries have a norm of their own, and may come from another sequence.
        clean: zero the padding behind norms; otherwise their biases in the padding reach the last valid positions through the
            convolutions, as in ActionFormer's public code.
        hidden: channels inside the MLP; None: 4 dim.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        stride: int = 1,
        window: int | None = None,
        drop_path: float = 0.0,
        scale: float | None = 1e-4,
        own_query_norm: bool = False,
        clean: bool = True,
        hidden: int | None = None,
    ):
        super().__init__()
        self.stride, self.clean = stride, clean
        self.norm, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm_query = nn.LayerNorm(dim) if own_query_norm else None
        self.attention = ConvAttention(dim, heads, stride, window)
        self.mlp = nn.Sequential(_linear(dim, hidden or 4 * dim), nn.GELU(), _linear(hidden or 4 * dim, dim))
        self.drop_attention, self.drop_mlp = (ScaledDropPath(dim, drop_path, scale) for _ in range(2))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, asking: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, C) valid where the mask (B, T) says -> (B, T / stride, C), valid at `halved(mask, stride)`.

        Args:
            asking: (B, T, C), where the queries come from (`own_query_norm`); None: from `x`.
        """
        kept = halved(mask, self.stride)
        if self.norm_query is not None:
            asking = self.norm_query(x if asking is None else asking)
        seen = self.norm(x)
        if self.clean:
            seen, asking = masked(seen, mask), None if asking is None else masked(asking, mask)
        skip = x if self.stride == 1 else halved_by_max(x)
        out = masked(skip, kept) + self.drop_attention(self.attention(seen, mask, asking))
        return out + self.drop_mlp(masked(self.mlp(self.norm_mlp(out)), kept))


class PlainAttention(nn.Module):
    """Multi-head attention between two sequences, keys under a mask.

    Args:
        dim: channels.
        heads: of them.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.proj = (_linear(dim, dim) for _ in range(4))

    def forward(self, x: torch.Tensor, other: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Queries of `x` (B, T, C), keys and values of `other` (B, S, C) -> (B, T, C).

        Args:
            bias: broadcasts to (B, H, T, S); bool, True where a query sees a key, or float, added to the scores.
        """
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.query(x), self.key(other), self.value(other)))
        return self.proj(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))


def _linear(inside: int, outside: int) -> nn.Linear:
    """A linear layer without a first bias; its weights are those of a convolution of width 1."""
    layer = nn.Linear(inside, outside)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
    nn.init.zeros_(layer.bias)
    return layer
