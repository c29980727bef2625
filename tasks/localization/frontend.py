"""What happens to features before the localiser: they are brought to one scale, and pictures side by side are seen by the same weights."""

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import MaskedConv, masked
from tasks.core.nn.standardized import Standardized
from tasks.localization.config import LocalizerConfig

Streams = dict[str, torch.Tensor]
CONVOLUTIONS, KERNEL = 2, 5
"""Of what sees each column: so far it looks before the columns are one."""


class Columns(nn.Module):
    """Features of pictures side by side, each seen by the same convolutions, as one: the highest value of each channel.

    Args:
        dim: channels of all together.
        count: pictures.
        width: channels that come out.
        rate: of dropout.
    """

    def __init__(self, dim: int, count: int, width: int, rate: float):
        super().__init__()
        self.count, self.rate = count, rate
        sizes = [dim // count, *[width] * CONVOLUTIONS]
        self.convs = nn.ModuleList(MaskedConv(a, b, KERNEL, bias=False) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.convs)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, dim) to (B, T, width)."""
        x = torch.cat(x.chunk(self.count, -1))
        every = mask.repeat(self.count, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = masked(F.relu(norm(conv(F.dropout(x, self.rate, self.training), every))), every)
        return x.unflatten(0, (self.count, -1)).amax(0)


class Frontend(nn.Module):
    """Both, where the configuration has them.

    Args:
        config: of the model.
        dims: channels of the streams that the model takes.

    Attributes:
        dims: channels that come out.

    Raises:
        ValueError: visual channels that do not divide by the columns.
    """

    def __init__(self, config: LocalizerConfig, dims: Mapping[str, int]):
        super().__init__()
        self.dims = dict(dims)
        self.scales = nn.ModuleDict({name: Standardized(dim) for name, dim in dims.items()} if config.standardize else {})
        self.columns = None
        if config.columns > 1 and "visual" in dims:
            self.columns = Columns(dims["visual"], config.columns, config.width, config.input_dropout)
            self.dims["visual"] = config.width

    def forward(self, streams: Streams, mask: torch.Tensor) -> Streams:
        """Streams (B, T, C) with zeros where they are not valid, to the same."""
        if self.scales:
            streams = {name: masked(self.scales[name](x), mask) for name, x in streams.items()}
        if self.columns is not None:
            streams = {**streams, "visual": self.columns(streams["visual"], mask)}
        return streams
