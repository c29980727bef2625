"""Text towers: CLIP's, into which prompts can be put, and the choice between it and sentence encoders.

from tasks.core.towers import load_text_tower
tower = load_text_tower("hf://openai/clip-vit-large-patch14")
print(tower(["a dog barks", "a cat sleeps"]).shape)  # (2, 512)
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tasks.core.checkpoint import build_strict
from tasks.core.errors import UsageError
from tasks.core.nn.clip import TextTransformer
from tasks.core.text.bpe import read_tokenizer
from tasks.core.towers.clip_source import ClipSource, clip_kind, locate, model_type, read_clip
from tasks.core.towers.identity import identity, tensors_hash
from tasks.core.towers.pair import load_pair_text, pair_folder
from tasks.core.towers.text_tower import TextTower

if TYPE_CHECKING:
    from tasks.core.towers.sentence import SentenceTower


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
