"""The aligner: an encoder of the video alone and one of video and sentences together (Han et al., CVPR 2022, section 3.2)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tasks.alignment.config import AlignerConfig
from tasks.core.nn.clip import layers_of
from tasks.core.nn.sequence import MaskedConv, masked, stretched
from tasks.core.nn.standardized import Standardized

KERNEL = 5
"""Of the convolutions of a stem."""


@dataclass
class Encoded:
    """What the aligner makes of videos and their sentences; all of length 1 but the logits. S stages, the last one is the result.

    Attributes:
        dual_video: (B, S, T, C), by the encoder of the video alone.
        dual_text: (B, K, C), sentences, not encoded any further.
        joint_video: (B, S', T, C), by the encoder of both.
        joint_text: (B, S', K, C).
        alignable: (B, K), logits.
    """

    dual_video: torch.Tensor
    dual_text: torch.Tensor
    joint_video: torch.Tensor
    joint_text: torch.Tensor
    alignable: torch.Tensor

    def similarities(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines of sentences and features of the same video at the last stage, dual and joint: (B, K, T) each."""
        dual = torch.einsum("btc,bkc->bkt", self.dual_video[:, -1], self.dual_text)
        return dual, torch.einsum("btc,bkc->bkt", self.joint_video[:, -1], self.joint_text[:, -1])


class Aligner(nn.Module):
    """Features and sentence vectors to comparable vectors, at every stage.

    Args:
        config: architecture.
        video_dim: channels of a feature.
        text_dim: channels of a sentence.
    """

    def __init__(self, config: AlignerConfig, video_dim: int, text_dim: int):
        super().__init__()
        self.config, width = config, config.width
        self.scale = Standardized(video_dim) if config.standardize else None
        self.video_in = nn.Linear(video_dim, width, bias=False)
        self.text_in = nn.Linear(text_dim, width, bias=False)
        self.stem = nn.ModuleList(MaskedConv(width, width, KERNEL) for _ in range(config.stem))
        self.stem_norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.stem)
        self.norm_video, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_positions = None if config.positions is None else nn.LayerNorm(width)
        self.norm_dual, self.norm_joint = nn.LayerNorm(width), nn.LayerNorm(width)
        self.positions = None if config.positions is None else nn.Parameter(0.01 * torch.randn(config.positions, width))
        self.dual = layers_of(width, config.dual_layers, config.heads, 4 * width)
        self.joint = layers_of(width, config.joint_layers, config.heads, 4 * width)
        self.head = nn.Linear(width, 1)
        for linear, std in ((self.video_in, config.init_std), (self.text_in, config.init_std), (self.head, 0.01)):
            nn.init.normal_(linear.weight, std=std)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        video: torch.Tensor,
        text: torch.Tensor,
        video_mask: torch.Tensor,
        text_mask: torch.Tensor,
        offset: int = 0,
        stretch: int | None = None,
    ) -> Encoded:
        """Encodes videos with their sentences.

        Args:
            video: (B, T, video_dim) features.
            text: (B, K, text_dim) sentence vectors.
            video_mask, text_mask: (B, T), (B, K) bool, True where there is one.
            offset: row of the table of positions that the first feature gets.
            stretch: positions of a longer video lie between the first `stretch` rows of the table; None: only where it is too short.
        """
        seen = self.see(video, video_mask, offset, stretch)
        sentences = self.norm_text(self.text_in(text))
        dual = self._encode(self.dual, self.norm_dual, seen, video_mask)
        both = self._encode(self.joint, self.norm_joint, torch.cat([seen, sentences], 1), torch.cat([video_mask, text_mask], 1))
        joint_video, joint_text = both.split([video.shape[1], text.shape[1]], 2)
        read = -1 if self.config.head_layer is None else self.config.head_layer - 1
        alignable = self.head(joint_text[:, read])[..., 0]
        return Encoded(*(F.normalize(x, dim=-1) for x in (dual, sentences, joint_video, joint_text)), alignable)

    def see(self, video: torch.Tensor, mask: torch.Tensor, offset: int = 0, stretch: int | None = None) -> torch.Tensor:
        """Features as both encoders take them, (B, T, C), with their positions; arguments as `forward`."""
        if self.scale is not None:
            video = masked(self.scale(video), mask)
        x = self.video_in(F.dropout(video, self.config.input_dropout, self.training))
        for conv, norm in zip(self.stem, self.stem_norms, strict=True):
            x = masked(x, mask)
            x = x + F.dropout(F.gelu(norm(conv(x, mask))), self.config.dropout, self.training)
        if self.config.pool > 1:
            x = centered(pooled(F.relu(x), mask, self.config.pool), mask)
        x = self.norm_video(x)
        if self.positions is None:
            return x
        return x + self.norm_positions(self._positions(video.shape[1], offset, stretch).to(x.dtype))

    def dual_features(self, video: torch.Tensor, mask: torch.Tensor, offset: int = 0, stretch: int | None = None) -> torch.Tensor:
        """(B, S, T, C) of the encoder of the video alone, not normalised: a video encoder for retrieval. Arguments as `forward`."""
        return self._encode(self.dual, self.norm_dual, self.see(video, mask, offset, stretch), mask)

    def _positions(self, size: int, offset: int, stretch: int | None) -> torch.Tensor:
        table = self.positions[offset:] if stretch is None else self.positions[:stretch]
        return stretched(table, torch.tensor([size], device=table.device), size)[0] if size > len(table) else _resized(table, size, stretch)

    def _encode(self, layers: nn.ModuleList, norm: nn.LayerNorm, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, S, L, C): the normalised input of every layer but the first, and the normalised end."""
        stages = []
        for number, layer in enumerate(layers):
            normed = layer.norm1(x)
            if number:
                stages.append(normed)
            x = layer.behind(x + layer.attend(normed, mask=mask))
        return torch.stack([*stages, norm(x)], 1)


def pooled(x: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """(B, T, C): the mean of `size` neighbours of every position, of those that the mask (B, T) has."""
    known = mask[..., None].to(x.dtype)
    sums = F.avg_pool1d(torch.cat([x * known, known], -1).transpose(1, 2), size, 1, size // 2).transpose(1, 2)
    return sums[..., :-1] / sums[..., -1:].clamp(min=1e-6)


def centered(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T, C) less its mean over the positions that the mask (B, T) has: what all of a window shares tells nothing apart."""
    known = mask[..., None].to(x.dtype)
    return x - (x * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)


def _resized(table: torch.Tensor, size: int, stretch: int | None) -> torch.Tensor:
    """(size, C): the first rows of a table, or all of its rows brought to this number."""
    if stretch is None or size == len(table):
        return table[:size]
    return F.interpolate(table.T[None], size, mode="linear", align_corners=False)[0].T
