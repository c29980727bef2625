"""CLIP's text transformer with its tokenizer, into which prompts can be put."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tasks.core.nn.clip import TextTransformer
from tasks.core.text.bpe import Tokenizer

BATCH = 256
"""Texts that go through a tower at once."""


class TextTower(nn.Module):
    """CLIP's text transformer with its tokenizer.

    Args:
        network: with its weights.
        tokenizer: whose tokens it knows.
        source: of `identity`.
        scale: what cosines with pictures are multiplied with before the softmax; None: unknown.

    Attributes:
        network, tokenizer, source, scale: as given. `network.embed` and `network.encode` are where prompts are put in.
        dim: length of a vector.
        width: channels of a token embedding.
        context: tokens of a text, with start and end.
    """

    def __init__(self, network: TextTransformer, tokenizer: Tokenizer, source: dict[str, Any], scale: float | None = None):
        super().__init__()
        self.network, self.tokenizer, self.source, self.scale = network, tokenizer, source, scale
        self.dim, self.width, self.context = network.dim, network.config.width, network.config.context

    def numbers(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token numbers of texts, cut to `context`.

        Returns:
            (N, L) int64, start, text, end, zeros, L that of the longest; (N,) int64, the place of each end. Both on the tower's device.
        """
        device = self.network.positions.device
        ids, end = token_numbers(self.tokenizer, texts, self.context)
        return ids.to(device), end.to(device)

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts to vectors `(N, dim)`, not normalised; what does not fit `context` is cut off."""
        parts = [self.network(*self.numbers(texts[first : first + BATCH])) for first in range(0, len(texts), BATCH)]
        return torch.cat(parts) if parts else self.network.positions.new_zeros(0, self.dim)


def token_numbers(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers of texts, cut to `context`.

    Returns:
        (N, L) int64, start, text, end, zeros, L that of the longest; (N,) int64, the place of each end.
    """
    rows = [tokenizer.whole(text, context) for text in texts]
    ids = torch.zeros((len(rows), max(map(len, rows), default=2)), dtype=torch.int64)
    for row, numbers in zip(ids, rows, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    return ids, torch.tensor([len(row) - 1 for row in rows], dtype=torch.int64)
