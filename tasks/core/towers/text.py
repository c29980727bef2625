"""Text towers: CLIP's, into which prompts can be put, and the choice between it and sentence encoders.

from tasks.core.towers import load_text_tower
tower = load_text_tower("hf://openai/clip-vit-large-patch14")
print(tower(["a dog barks", "a cat sleeps"]).shape)  # (2, 512)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tasks.core.checkpoint import build_strict
from tasks.core.errors import UsageError
from tasks.core.nn.clip import TextTransformer
from tasks.core.text.bpe import Tokenizer, read_tokenizer
from tasks.core.towers.clip_source import ClipSource, clip_kind, locate, model_type, read_clip
from tasks.core.towers.identity import identity, tensors_hash
from tasks.core.towers.pair import load_pair_text, pair_folder

if TYPE_CHECKING:
    from tasks.core.towers.sentence import SentenceTower

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


def load_text_tower(
    reference: str, device: torch.device | str = "cpu", vocabulary: str | Path | None = None
) -> "TextTower | SentenceTower":
    """The text tower of a CLIP model or of a model of video and text, or a sentence encoder, frozen and in evaluation mode.

    Args:
        reference: a CLIP model (`clip_source.read_clip`), a model or run folder of video and text (`core.towers.pair`), or a folder or
            `hf://` id of transformers or sentence-transformers with an encoder such as BERT, MiniLM or MPNet, which needs the package
            transformers.
        device: where it computes.
        vocabulary: of a CLIP model, where its folder has none: a folder or file as `core.text.bpe.read_tokenizer` takes it.

    Raises:
        UsageError: there is no such model, it cannot be read, or it has no vocabulary.
    """
    place = locate(str(reference))
    if clip_kind(place):
        tower = _clip(read_clip(str(reference)), str(reference), vocabulary)
    elif place.is_dir() and model_type(place):
        from tasks.core.towers.sentence import read_sentence_tower

        tower = read_sentence_tower(place, str(reference))
    elif folder := pair_folder(place):
        tower = load_pair_text(str(folder), lambda there, own: load_text_tower(there, vocabulary=vocabulary or own))
    else:
        raise UsageError(
            f"{reference} has no text tower",
            "give a CLIP model or a sentence encoder (a folder of transformers, hf://org/repo, a .pt file), or a run of video-text",
        )
    return tower.requires_grad_(False).to(device).eval()


def _clip(source: ClipSource, reference: str, vocabulary: str | Path | None) -> TextTower:
    settings, weights = source.text()
    tokenizer = read_tokenizer(vocabulary or source.folder, settings.vocabulary)
    with torch.device("cpu"):  # whatever device a method is built on
        network = build_strict(lambda: TextTransformer(settings), weights, reference)
    facts = [settings.model_dump(), tokenizer.vocabulary, tokenizer.merges]
    return TextTower(network, tokenizer, identity(reference, "clip-text", tensors_hash(weights, facts)), source.logit_scale())
