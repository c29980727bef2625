"""The trained part of prompted CLIP: vectors around names, and a transformer over the features of frames."""

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.clip import Layer, TextTransformer
from tasks.core.nn.precision import full_precision
from tasks.prompting.config import PromptConfig, PromptedConfig, TemporalConfig

FIRST_STD = 0.01
"""Standard deviation of first prompts and places (public code)."""


class Prompts(nn.Module):
    """Learned vectors around the token embeddings of names, read through a frozen text transformer.

    A text is: start token, `before` vectors, the name, `after` vectors, end token; positions are added by the transformer.

    Args:
        config: how many vectors, and which of the two layouts.
        width: channels of a token embedding.
        context: tokens of a text.
    """

    def __init__(self, config: PromptConfig, width: int, context: int):
        super().__init__()
        self.config = config
        sizes = {"table": context} if config.layout == "positional" else {"before": config.before, "after": config.after}
        for name, size in sizes.items():
            if size:  # optimizers take no empty tensors
                setattr(self, name, nn.Parameter(FIRST_STD * torch.randn(size, width)))

    def _bank(self, like: torch.Tensor) -> torch.Tensor:
        """Vectors by the number that `_places` gives."""
        none = like.new_zeros(0, like.shape[-1])
        if self.config.layout == "positional":
            return self.table
        return torch.cat([getattr(self, "before", none), getattr(self, "after", none)])

    def _places(self, positions: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
        """Which vector stands where a vector does.

        Args:
            positions: (1, L), of the text.
            behind: (C, 1), the first position behind each name.
        """
        if self.config.layout == "positional":
            return positions.expand(len(behind), -1)
        return torch.where(positions < behind, positions - 1, self.config.before + positions - behind)

    def put(self, names: torch.Tensor, lengths: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole texts.

        Args:
            names: (C, N, width), token embeddings of the names, padded with anything.
            lengths: (C,) int64, tokens of each.
            start, end: (width,), embeddings of the start and of the end token.

        Returns:
            (C, L, width), without positions, anything behind the end token; (C,) int64, the place of each end token.
        """
        before, after = self.config.before, self.config.after
        ends = before + lengths + after + 1
        length = before + names.shape[1] + after + 2
        positions = torch.arange(length, device=names.device)[None]
        behind = (before + 1 + lengths)[:, None]
        bank = self._bank(names)
        if len(bank):
            texts = bank[self._places(positions, behind).clamp(0, len(bank) - 1)].to(names.dtype)
        else:
            texts = names.new_zeros(len(names), length, names.shape[-1])
        if names.shape[1]:
            number = (positions - before - 1).clamp(0, names.shape[1] - 1).expand(len(names), -1)
            own = names.gather(1, number[..., None].expand(-1, -1, names.shape[-1]))
            texts = torch.where(((positions > before) & (positions < behind))[..., None], own, texts)
        texts = torch.where((positions == 0)[..., None], start, texts)
        return torch.where((positions >= ends[:, None])[..., None], end, texts), ends

    def forward(self, tower: TextTransformer, ids: torch.Tensor, lengths: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
        """Names to vectors `(C, dim)`, not normalised; gradients reach the prompts.

        Args:
            tower: frozen.
            ids: (C, N) int64, token numbers of names, without start and end, padded with anything.
            lengths: (C,) int64.
            marks: (2,) int64, the numbers of the start and of the end token.
        """
        start, end = tower.embed(marks)
        return tower.encode(*self.put(tower.embed(ids), lengths, start, end))


class Temporal(nn.Module):
    """From the features of frames to those of frames that have seen each other; without layers it changes nothing.

    Args:
        config: layers.
        dim: channels of a feature.
        frames: of a clip.
        gaps: number of distances of frames that are told apart.
    """

    def __init__(self, config: TemporalConfig, dim: int, frames: int, gaps: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer(dim, config.heads, 4 * dim) for _ in range(config.layers))
        if config.layers:
            self.positions = nn.Parameter(FIRST_STD * torch.randn(frames, dim))
        if config.gap_embedding:
            self.gaps = nn.Parameter(FIRST_STD * torch.randn(gaps, dim))

    def forward(self, features: torch.Tensor, gap: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, T, dim)` to the same; `gap`: (B,) int64, the number of each clip's distance of frames."""
        if not len(self.layers):
            return features
        x = features + self.positions
        if hasattr(self, "gaps"):
            x = x + self.gaps[gap][:, None]
        for layer in self.layers:
            x = layer(x)
        return x


class PromptedModel(nn.Module):
    """All that is trained. The frozen text tower is handed in where it is needed.

    Args:
        config: sizes.
        width: channels of a token embedding of the text tower.
        context: tokens of a text.
        dim: channels of the features of frames and of texts.

    Attributes:
        config: as given.
    """

    def __init__(self, config: PromptedConfig, width: int, context: int, dim: int):
        super().__init__()
        self.config = config
        self.prompts = Prompts(config.prompts, width, context)
        self.temporal = Temporal(config.temporal, dim, config.frames, len(config.gaps))

    def text_features(self, tower: TextTransformer, ids: torch.Tensor, lengths: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
        """As `Prompts`."""
        return self.prompts(tower, ids, lengths, marks)

    def dense_features(self, features: torch.Tensor, gap: torch.Tensor | None = None) -> torch.Tensor:
        """Clips `(B, T, dim)` of features of frames to the same, when the frames of each have seen each other."""
        return self.temporal(features, gap)

    def video_features(self, features: torch.Tensor, gap: torch.Tensor | None = None) -> torch.Tensor:
        """Clips `(B, T, dim)` of features of frames to vectors `(B, dim)`, not normalised."""
        return self.dense_features(features, gap).mean(1)

    def logits(self, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Cosines of `(B, dim)` and `(C, dim)` over the temperature, `(B, C)`."""
        return scores(video, text, self.config.temperature)


def scores(video: torch.Tensor, text: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cosines of `(B, dim)` and `(C, dim)` over a temperature, `(B, C)`, in float32 at least."""
    return F.normalize(full_precision(video), dim=-1) @ F.normalize(full_precision(text), dim=-1).T / temperature
