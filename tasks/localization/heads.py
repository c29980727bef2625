"""The heads of a localiser, shared by all levels: classes, and distances to start and end.

All levels go through a head as one sequence, with an empty place between two of them that convolutions of width 3 see as their end.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import MaskedConv, masked
from tasks.localization.config import HeadConfig


@dataclass(frozen=True)
class Joined:
    """Levels one behind the other, an empty place behind each.

    Attributes:
        x: (B, S, C), 0 at the empty places.
        mask: (B, S) bool, what is valid.
        room: (1, S) bool, what is no empty place.
        lengths: of the levels.
    """

    x: torch.Tensor
    mask: torch.Tensor
    room: torch.Tensor
    lengths: list[int]

    @classmethod
    def of(cls, levels: list[torch.Tensor], masks: list[torch.Tensor]) -> "Joined":
        """From levels (B, T_l, C) and their masks (B, T_l)."""
        lengths = [x.shape[1] for x in levels]
        x = torch.cat([F.pad(x, (0, 0, 0, 1)) for x in levels], 1)
        mask = torch.cat([F.pad(mask, (0, 1)) for mask in masks], 1)
        room = torch.cat([F.pad(torch.ones_like(mask[:1]), (0, 1)) for mask in masks], 1)
        return cls(x, mask, room, lengths)

    def split(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The levels of (B, S, C')."""
        return [part[:, :length] for part, length in zip(x.split([n + 1 for n in self.lengths], 1), self.lengths, strict=True)]


class Trunk(nn.Module):
    """Convolutions with norms before the last one of a head."""

    def __init__(self, inside: int, config: HeadConfig, clean: bool):
        super().__init__()
        sizes = [inside] + [config.width] * (config.layers - 1)
        self.convs = nn.ModuleList(MaskedConv(a, b, 3, bias=False) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in self.convs)
        self.clean, self.dim = clean, sizes[-1]

    def forward(self, levels: Joined) -> torch.Tensor:
        """(B, S, C) -> (B, S, width)."""
        x = levels.x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = masked(F.relu(norm(conv(x, levels.mask))), levels.mask if self.clean else levels.room)
        return x


class ClassHead(nn.Module):
    """Logits of the classes at every point."""

    def __init__(self, inside: int, classes: int, config: HeadConfig, clean: bool):
        super().__init__()
        self.trunk = Trunk(inside, config, clean)
        self.last = MaskedConv(self.trunk.dim, classes)
        nn.init.constant_(self.last.bias, -math.log((1 - config.prior) / config.prior))

    def forward(self, levels: Joined) -> list[torch.Tensor]:
        """(B, T_l, K) of each level."""
        return levels.split(self.last(self.trunk(levels), levels.mask))


class BoundaryHead(nn.Module):
    """Distances from every point to start and end of an event, in strides of the level; one pair for all classes or for each."""

    def __init__(self, inside: int, classes: int, levels: int, config: HeadConfig, clean: bool):
        super().__init__()
        self.trunk = Trunk(inside, config, clean)
        self.scales = nn.Parameter(torch.ones(levels))
        self.last = MaskedConv(self.trunk.dim, 2 * classes if config.class_aware else 2)
        self.class_aware = config.class_aware

    def forward(self, levels: Joined) -> list[torch.Tensor]:
        """(B, T_l, 2) of each level, or (B, T_l, K, 2) where classes have their own; not negative."""
        parts = levels.split(self.last(self.trunk(levels), levels.mask))
        found = [F.relu(scale * x) for scale, x in zip(self.scales, parts, strict=True)]
        return [x.unflatten(-1, (-1, 2)) for x in found] if self.class_aware else found
