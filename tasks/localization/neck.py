"""Path aggregation over the levels of two pyramids, each guided by the other modality (DEL, PAN; after YOLO-World's neck)."""

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import MaskedConv, PlainAttention, masked
from tasks.localization.backbone import block
from tasks.localization.config import LocalizerConfig


class GuidedFusion(nn.Module):
    """Joins two sequences into one: half of the channels goes through transformer blocks and looks at the guide; all that came up on the
    way is joined again.

    Args:
        config: of the model.
        level: of the pyramid, for the window of attention.
    """

    def __init__(self, config: LocalizerConfig, level: int):
        super().__init__()
        width = config.width
        half = width // 2
        self.enter = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width), nn.SiLU())
        self.blocks = nn.ModuleList(block(config, level, dim=half) for _ in range(config.neck.blocks))
        self.norm, self.guide, self.look = nn.LayerNorm(half), nn.Linear(width, half), PlainAttention(half, config.heads)
        self.leave = nn.Sequential(nn.Linear(half * (config.neck.blocks + 3), width), nn.LayerNorm(width), nn.SiLU())

    def forward(
        self, x: torch.Tensor, other: torch.Tensor, mask: torch.Tensor, guide: torch.Tensor, guide_mask: torch.Tensor
    ) -> torch.Tensor:
        """Two sequences (B, T, width), valid at the mask (B, T), and a guide (B, S, width), valid at (B, S) -> (B, T, width)."""
        pieces = list(self.enter(torch.cat([x, other], -1)).chunk(2, -1))
        pieces[1] = masked(pieces[1], mask)
        for each in self.blocks:
            pieces.append(each(pieces[-1], mask))
        pieces.append(self.look(self.norm(pieces[-1]), self.guide(guide), guide_mask[:, None, None]))
        return masked(self.leave(torch.cat(pieces, -1)), mask)


class PathAggregation(nn.Module):
    """Top-down from the coarsest level, then bottom-up from the finest; one network for both modalities."""

    def __init__(self, config: LocalizerConfig):
        super().__init__()
        steps = range(config.levels - 1)
        self.top_down = nn.ModuleList(GuidedFusion(config, level) for level in steps)
        self.bottom_up = nn.ModuleList(GuidedFusion(config, level + 1) for level in steps if config.neck.bottom_up)
        self.down = MaskedConv(config.width, config.width, 3, 2, bias=False) if config.neck.bottom_up else None
        self.down_norm = nn.LayerNorm(config.width) if config.neck.bottom_up else None
        self.factor = nn.Parameter(torch.zeros(config.levels)) if config.residual else None

    def forward(self, levels: list[torch.Tensor], masks: list[torch.Tensor], guide: torch.Tensor) -> list[torch.Tensor]:
        """A pyramid of (B, T / 2 ** l, width) with its masks, and the other modality at full length -> a pyramid of the same sizes."""
        seen = (guide, masks[0])
        found = list(levels)
        for level in range(len(levels) - 2, -1, -1):
            finer = found[level + 1].repeat_interleave(2, 1)
            found[level] = self.top_down[level](finer, levels[level], masks[level], *seen)
        for level, fuse in enumerate(self.bottom_up, 1):
            coarser = masked(F.silu(self.down_norm(self.down(found[level - 1], masks[level - 1]))), masks[level])
            found[level] = fuse(coarser, found[level], masks[level], *seen)
        if self.factor is None:
            return found
        return [level + factor * x for level, factor, x in zip(levels, self.factor, found, strict=True)]
