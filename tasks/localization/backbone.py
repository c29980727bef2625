"""From two sequences of features to two pyramids: embedding, transformer blocks at full length, then every level half as long."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import MaskedConv, SequenceBlock, halved, masked, sinusoid, stretched
from tasks.localization.config import LocalizerConfig

Streams = dict[str, torch.Tensor]
"""Sequences (B, T, C) of the same times by the name of their stream."""


class Embedding(nn.Module):
    """Convolutions with norms that bring the features of a stream to the width of the model."""

    def __init__(self, inside: int, config: LocalizerConfig):
        super().__init__()
        sizes = [inside] + [config.width] * config.embed
        self.convs = nn.ModuleList(MaskedConv(a, b, 3, bias=False) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in self.convs)
        self.clean = config.clean_padding

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, C), (B, T) -> (B, T, width)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, mask)))
            x = masked(x, mask) if self.clean else x
        return x


class ConvBranch(nn.Module):
    """The next level by a depth-wise convolution and a norm."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv, self.norm = MaskedConv(dim, dim, 3, 2, dim, bias=False), nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return masked(self.norm(self.conv(x, mask)), halved(mask, 2))


class Backbone(nn.Module):
    """Pyramids of one or two streams.

    Args:
        config: of the model.
        dims: channels of each stream that comes in.
    """

    def __init__(self, config: LocalizerConfig, dims: dict[str, int]):
        super().__init__()
        self.config = config
        self.embed = nn.ModuleDict({name: Embedding(dim, config) for name, dim in dims.items()})
        crossed = config.branch == "cross"
        self.stem = nn.ModuleDict(
            {name: nn.ModuleList(block(config, 0, own_query_norm=crossed) for _ in range(config.stem)) for name in dims}
        )
        self.cross = nn.ModuleDict({name: block(config, 0, own_query_norm=True) for name in dims} if crossed else {})
        steps = range(1, config.levels)
        if config.branch == "conv":  # both modalities become coarser in the same way
            self.branch = nn.ModuleList(ConvBranch(config.width) for _ in steps)
        else:
            made = {name: nn.ModuleList(block(config, level, 2, own_query_norm=crossed) for level in steps) for name in dims}
            self.branch = nn.ModuleDict(made)
        if config.positions is not None:
            self.register_buffer("table", sinusoid(config.positions, config.width) / config.width**0.5, persistent=False)

    def forward(self, streams: Streams, mask: torch.Tensor) -> tuple[dict[str, list[torch.Tensor]], list[torch.Tensor]]:
        """Streams of (B, T, C) valid at the mask (B, T) -> the levels of each stream (B, T / 2 ** l, width), and their masks."""
        full = {name: self._full_length(name, x, mask) for name, x in streams.items()}
        if self.cross:
            one, other = full
            full = {one: self.cross[one](full[one], mask, full[other]), other: self.cross[other](full[other], mask, full[one])}
        pyramids, masks = {name: [x] for name, x in full.items()}, [mask]
        for step in range(self.config.levels - 1):
            below = {name: levels[-1] for name, levels in pyramids.items()}
            for name, x in below.items():
                pyramids[name].append(self._next(name, step, x, masks[-1], below))
            masks.append(halved(masks[-1], 2))
        return pyramids, masks

    def _full_length(self, name: str, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed[name](x, mask)
        if self.config.positions is not None:
            lengths = mask.sum(1) if self.config.clean_padding else torch.full_like(mask[:, 0], mask.shape[1], dtype=torch.int64)
            x = x + masked(stretched(self.table, lengths, mask.shape[1]).to(x.dtype), mask)
        for each in self.stem[name]:
            x = each(x, mask)
        return x

    def _next(self, name: str, step: int, x: torch.Tensor, mask: torch.Tensor, below: Streams) -> torch.Tensor:
        if self.config.branch == "conv":
            return self.branch[step](x, mask)
        if self.config.branch == "attention":
            return self.branch[name][step](x, mask)
        other = next(values for stream, values in below.items() if stream != name)
        return self.branch[name][step](x, mask, other)


def block(config: LocalizerConfig, level: int, stride: int = 1, dim: int | None = None, own_query_norm: bool = False) -> SequenceBlock:
    """A transformer block as a model has it that gives a level."""
    return SequenceBlock(
        dim or config.width,
        config.heads,
        stride,
        config.window_of(level),
        config.drop_path,
        config.layer_scale,
        own_query_norm,
        config.clean_padding,
    )
