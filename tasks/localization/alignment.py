"""Alignment of picture and sound: attention over the tokens of both, constrained by a mask that may be learned (DEL, AAT).

Tokens of an item stand in the order [video token, T of the picture, sound token, T of the sound]; the two video-level tokens see their own
modality only.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.sequence import PlainAttention, masked, stretched
from tasks.localization.config import STREAMS, AlignmentConfig, LocalizerConfig

MOST_TOKENS = 5000
"""Learned positions; further tokens share them by stretching."""
EPSILON = 1e-4
"""Added to probabilities of the learned mask before their logarithm."""


@dataclass
class Aligned:
    """What the alignment gives.

    Attributes:
        tokens: stream -> (B, T, D).
        videos: stream -> (B, D), one vector for a whole video.
        pairs: (B, 2 T, 2 T) logits of the learned mask, picture before sound; None where it is not learned.
        gates: (B, 2 T) logits of tokens that lie in an event; None where the mask is not learned.
    """

    tokens: dict[str, torch.Tensor]
    videos: dict[str, torch.Tensor] = field(default_factory=dict)
    pairs: torch.Tensor | None = None
    gates: torch.Tensor | None = None


class LearnedMask(nn.Module):
    """Which pairs of tokens belong to one event: products of small projections, and the distance of the tokens in time.

    It begins flat: all pairs have probability 0.5, at which nothing is added to attention, so that it is plain. The factor of the tokens'
    own event scores begins at 0.
    """

    def __init__(self, dim: int, config: AlignmentConfig):
        super().__init__()
        self.query, self.key = (nn.ModuleDict({name: nn.Linear(dim, config.pair_width) for name in STREAMS}) for _ in range(2))
        self.gate = nn.ModuleDict({name: nn.Linear(dim, 1) for name in STREAMS})
        self.distance = nn.Parameter(torch.zeros(config.reach + 1))
        self.factor = nn.Parameter(torch.zeros(()))
        for name in STREAMS:
            nn.init.zeros_(self.query[name].weight)
            nn.init.zeros_(self.query[name].bias)

    def forward(self, tokens: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Streams of (B, T, D) -> (what is added to attention scores (B, 2 T, 2 T), pair logits (B, 2 T, 2 T), gate logits (B, 2 T))."""
        q, k, gates = (torch.cat([part[name](tokens[name]) for name in STREAMS], 1) for part in (self.query, self.key, self.gate))
        length = tokens[STREAMS[0]].shape[1]
        at = torch.arange(length, device=q.device).repeat(2)
        apart = (at[:, None] - at).abs().clamp(max=len(self.distance) - 1)
        with torch.autocast(q.device.type, enabled=False):
            pairs = q.float() @ k.float().transpose(1, 2) / math.sqrt(q.shape[-1]) + self.distance[apart].float()
            gates = gates.float().squeeze(-1)
            both = gates.sigmoid()[:, :, None] * gates.sigmoid()[:, None]
            added = ((pairs.sigmoid() + EPSILON) / (0.5 + EPSILON)).log() + self.factor * (both + EPSILON).log()
        return added, pairs, gates


class AlignmentLayer(nn.Module):
    """Pre-norm attention that both modalities share, and an MLP for each."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), PlainAttention(dim, heads)
        self.mlp = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)) for name in STREAMS}
        )

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        seen = self.norm(x)
        x = x + self.attention(seen, seen, bias)
        parts = zip(STREAMS, x.chunk(2, 1), strict=True)
        return torch.cat([part + self.mlp[name](part) for name, part in parts], 1)


class Alignment(nn.Module):
    """Tokens of both modalities after attention under a mask.

    Args:
        config: of the model.
        dims: channels of each stream that comes in.
    """

    def __init__(self, config: LocalizerConfig, dims: dict[str, int]):
        super().__init__()
        self.config, dim = config.alignment, config.width
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in STREAMS})
        for name in STREAMS:
            self.register_parameter(f"{name}_token", nn.Parameter(0.02 * torch.randn(1, 1, dim)))
            self.register_parameter(f"{name}_kind_token", nn.Parameter(0.02 * torch.randn(1, 1, dim)))
        self.position = nn.Parameter(0.02 * torch.randn(1, MOST_TOKENS, dim))
        self.learned = LearnedMask(dim, self.config) if self.config.mask == "learned" else None
        self.layers = nn.ModuleList(AlignmentLayer(dim, self.config.heads) for _ in range(self.config.layers))
        self.out = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim)) for name in STREAMS}
        )
        self.factor = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in STREAMS} if config.residual else {})

    def forward(self, streams: dict[str, torch.Tensor], mask: torch.Tensor) -> Aligned:
        """Streams of (B, T, C), valid at the mask (B, T) -> aligned tokens, zero where they are not valid."""
        tokens = {name: self.project[name](streams[name]) for name in STREAMS}
        pairs = gates = added = None
        if self.learned is not None:
            added, pairs, gates = self.learned(tokens)
        place = stretched(self.position[0], mask.sum(1), mask.shape[1])
        parts = []
        for name in STREAMS:
            start = getattr(self, f"{name}_token").expand(len(mask), -1, -1)
            parts += [start, tokens[name] + place + getattr(self, f"{name}_kind_token")]
        x = torch.cat(parts, 1)
        bias = self.bias(mask, added, x.dtype)
        for layer in self.layers:
            x = layer(x, bias)
        halves = dict(zip(STREAMS, x.chunk(2, 1), strict=True))
        found = {name: self.out[name](halves[name][:, 1:] + tokens[name]) for name in STREAMS}
        found = {name: tokens[name] + self.factor[name] * x if self.factor else x for name, x in found.items()}
        found = {name: masked(x, mask) for name, x in found.items()}
        return Aligned(found, {name: self.out[name](halves[name][:, 0]) for name in STREAMS}, pairs, gates)

    def bias(self, mask: torch.Tensor, added: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
        """What is added to attention scores: (B, 1, 2 T + 2, 2 T + 2), -inf where a token does not see another.

        Args:
            mask: (B, T) bool, valid tokens.
            added: (B, 2 T, 2 T) of the learned mask; None: nothing.
            dtype: of the scores.
        """
        length = mask.shape[1]
        allowed = allowed_pairs(length, self.config, mask.device)
        start = torch.ones(len(mask), 1, dtype=torch.bool, device=mask.device)
        keys = torch.cat([start, mask, start, mask], 1)
        shut = ~(allowed & keys[:, None])
        if added is None:
            full = torch.zeros(shut.shape, dtype=dtype, device=mask.device)
        else:  # nothing is added where a video-level token asks or answers
            above, left = F.pad(added.unflatten(1, (2, length)), (0, 0, 1, 0)).flatten(1, 2), (2, length)
            full = F.pad(above.unflatten(2, left), (1, 0)).flatten(2).to(dtype)
        return full.masked_fill(shut, float("-inf"))[:, None]


def allowed_pairs(length: int, config: AlignmentConfig, device: torch.device) -> torch.Tensor:
    """(2 T + 2, 2 T + 2) bool: which tokens may see which, whatever is learned.

    Within a modality all; across, by `config.mask`; video-level tokens see their own modality and are seen by it.
    """
    at = torch.cat([torch.tensor([-1]), torch.arange(length)]).repeat(2).to(device)
    first = torch.arange(2 * length + 2, device=device) <= length
    within = first[:, None] == first
    tokens = (at >= 0)[:, None] & (at >= 0)
    reach = {"time": 0, "band": config.band}.get(config.mask, length)
    return within | tokens & ((at[:, None] - at).abs() <= reach)


class Projection(nn.Module):
    """Tokens and means of each modality by itself: what the contrast works on without an alignment."""

    def __init__(self, config: LocalizerConfig, dims: dict[str, int]):
        super().__init__()
        norm = nn.Identity if config.residual else nn.LayerNorm
        self.project = nn.ModuleDict({name: nn.Sequential(nn.Linear(dims[name], config.width), norm(config.width)) for name in STREAMS})

    def forward(self, streams: dict[str, torch.Tensor], mask: torch.Tensor) -> Aligned:
        tokens = {name: masked(self.project[name](streams[name]), mask) for name in STREAMS}
        lengths = mask.sum(1, keepdim=True)
        return Aligned(tokens, {name: values.sum(1) / lengths for name, values in tokens.items()})
