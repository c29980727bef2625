"""The heads of a localiser, shared by all levels: classes, and distances to start and end."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import MaskedConv, masked
from tasks.localization.config import HeadConfig


class Trunk(nn.Module):
    """Convolutions with norms before the last one of a head."""

    def __init__(self, inside: int, config: HeadConfig, clean: bool):
        super().__init__()
        sizes = [inside] + [config.width] * (config.layers - 1)
        self.convs = nn.ModuleList(MaskedConv(a, b, 3, bias=False) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in self.convs)
        self.clean, self.dim = clean, sizes[-1]

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, mask)))
            x = masked(x, mask) if self.clean else x
        return x


class ClassHead(nn.Module):
    """Logits of the classes at every point."""

    def __init__(self, inside: int, classes: int, config: HeadConfig, clean: bool):
        super().__init__()
        self.trunk = Trunk(inside, config, clean)
        self.last = MaskedConv(self.trunk.dim, classes)
        nn.init.constant_(self.last.bias, -math.log((1 - config.prior) / config.prior))

    def forward(self, levels: list[torch.Tensor], masks: list[torch.Tensor]) -> list[torch.Tensor]:
        """(B, T_l, C) of each level -> (B, T_l, K)."""
        return [self.last(self.trunk(x, mask), mask) for x, mask in zip(levels, masks, strict=True)]


class BoundaryHead(nn.Module):
    """Distances from every point to start and end of an event, in strides of the level; one pair for all classes or for each."""

    def __init__(self, inside: int, classes: int, levels: int, config: HeadConfig, clean: bool):
        super().__init__()
        self.trunk = Trunk(inside, config, clean)
        self.scales = nn.Parameter(torch.ones(levels))
        self.last = MaskedConv(self.trunk.dim, 2 * classes if config.class_aware else 2)
        self.class_aware = config.class_aware

    def forward(self, levels: list[torch.Tensor], masks: list[torch.Tensor]) -> list[torch.Tensor]:
        """(B, T_l, C) of each level -> (B, T_l, 2), or (B, T_l, K, 2) where classes have their own; not negative."""
        found = [F.relu(scale * self.last(self.trunk(x, mask), mask)) for scale, x, mask in zip(self.scales, levels, masks, strict=True)]
        return [x.unflatten(-1, (-1, 2)) for x in found] if self.class_aware else found
