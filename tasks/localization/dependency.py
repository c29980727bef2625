"""Dependencies between the events of a video: the features of every class attend over time and over classes (UnAV, section 4.3)."""

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import MaskedConv, SequenceBlock, masked
from tasks.localization.config import LocalizerConfig

WIDTH = 128
"""Channels of the features of a class."""


class Dependency(nn.Module):
    """Adds what happens at other times and what other events happen at the same time.

    Args:
        dim: channels of the levels.
        classes: K.
        config: drop path.
    """

    def __init__(self, dim: int, classes: int, config: LocalizerConfig):
        super().__init__()
        self.classes = classes
        self.expand, self.squeeze = MaskedConv(dim, WIDTH * classes, bias=False), MaskedConv(WIDTH * classes, dim, bias=False)
        settings = {"drop_path": config.drop_path, "scale": config.layer_scale, "clean": config.clean_padding, "hidden": WIDTH}
        self.together, self.temporal = (SequenceBlock(WIDTH, 1, own_query_norm=True, **settings) for _ in range(2))

    def forward(self, levels: list[torch.Tensor], masks: list[torch.Tensor]) -> list[torch.Tensor]:
        """(B, T_l, C) of each level -> the same shapes."""
        return [self._one(x, mask) for x, mask in zip(levels, masks, strict=True)]

    def _one(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        size, length = mask.shape
        own = F.relu(self.expand(x, mask)).unflatten(-1, (self.classes, WIDTH))
        over_time = self.temporal(own.transpose(1, 2).flatten(0, 1), mask.repeat_interleave(self.classes, 0))
        over_time = over_time.unflatten(0, (size, self.classes)).transpose(1, 2)
        everywhere = torch.ones(size * length, self.classes, dtype=torch.bool, device=mask.device)
        over_classes = self.together(own.flatten(0, 1), everywhere).unflatten(0, (size, length))
        return self.squeeze(masked((over_time + over_classes).flatten(2), mask), mask)
