"""Models of video and text in one space: a video encoder and what reads sentences, from one model folder.

    clips = load_pair_encoder("runs/words")                # as any encoder, `pooled` is in the shared space
    text = load_text_tower("runs/words")                   # (N, dim) of N sentences

What makes a model folder one: `pair` in its config.json, with `dim`, the length of the vectors, `scale`, what similarities are multiplied
with, and `cosine`; `text_tower`, either the identity of a frozen tower (`core.towers.identity`) or the architecture and vocabulary of a
text transformer whose tensors are `text.*`; the tensors `encoder.*`, `video_projection.weight` and perhaps `text_projection.weight`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tasks.core.checkpoint import Description, build_strict, encoder_weights, find_model, load_config, load_weights
from tasks.core.errors import UsageError
from tasks.core.nn.clip import TextTransformer
from tasks.core.nn.clip_config import ClipTextConfig
from tasks.core.nn.encoders import build_for, pooled_of, saved_settings
from tasks.core.text.bpe import Tokenizer
from tasks.core.towers.encoder import VideoEncoder
from tasks.core.towers.identity import identity, recall, tensors_hash
from tasks.core.towers.text_tower import TextTower

PAIR, TOWER = "pair", "text_tower"


class PairEncoder(VideoEncoder):
    """The video side: an encoder whose `pooled` is what it gives in the space that it shares with text.

    Args:
        network: see `core.nn.encoders`.
        projection: from its width to the shared space.
        saved: config.json of the model folder.
    """

    def __init__(self, network: nn.Module, projection: nn.Linear, saved: dict[str, Any]):
        super().__init__(network, saved)
        self.projection, self.dim = projection, projection.out_features

    def forward(self, x: Any) -> dict[str, torch.Tensor]:
        """As `VideoEncoder`; `pooled` `(B, dim)`, not normalised, is in the shared space."""
        out = self.network.outputs(self.video_of(x))
        return {**out, "pooled": self.projection(pooled_of(out))}


class MappedTower(nn.Module):
    """A frozen text tower and the map that was learned behind it.

    Args:
        tower: of `load_text_tower`.
        projection: from its vectors to the shared space.
        source: of `identity`.
        scale: what similarities are multiplied with.

    Attributes:
        dim: length of a vector.
    """

    def __init__(self, tower: nn.Module, projection: nn.Linear, source: dict[str, Any], scale: float):
        super().__init__()
        self.tower, self.projection, self.source, self.scale = tower, projection, source, scale
        self.dim = projection.out_features

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts to vectors `(N, dim)`, not normalised."""
        return self.projection(self.tower(texts))


def pair_folder(place: Path) -> Path | None:
    """The model folder of a video-text model in a model or run folder; None where there is none."""
    for folder in (place, place / "model"):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            found = find_model(str(folder))
            return found if PAIR in load_config(found) else None
    return None


def load_pair_encoder(reference: str, device: torch.device | str = "cpu") -> PairEncoder:
    """The video side of a video-text model, in evaluation mode.

    Args:
        reference: model folder, run folder or `hf://` id.
        device: where it computes.

    Raises:
        UsageError: there is no such model.
    """
    folder, saved, weights = _read(reference)
    settings, own = saved_settings(saved, reference), encoder_weights(weights)
    network = build_strict(lambda: build_for(settings, own), own, str(folder))
    projection = _linear(weights, "video_projection.", network.dim, saved[PAIR]["dim"], folder)
    return PairEncoder(network, projection, saved).to(device).eval()


def load_pair_text(reference: str, load: Callable[[str, str | None], nn.Module]) -> nn.Module:
    """The text side of a video-text model.

    Args:
        reference: model folder, run folder or `hf://` id.
        load: from the place of a frozen tower, and of a vocabulary, to the tower. A tower that is not where it was in training is looked
            for in the model folder, under the name that its folder had.

    Returns:
        a tower with `dim`, `source` and `scale`, from texts to `(N, dim)`: `TextTower` of text that was trained, the frozen tower itself,
        or `MappedTower`.

    Raises:
        UsageError: there is no such model; its frozen tower is missing or another one.
    """
    folder, saved, weights = _read(reference)
    recorded, pair = saved[TOWER], saved[PAIR]
    if "architecture" in recorded:
        settings, own = ClipTextConfig(**recorded["architecture"]), encoder_weights(weights, "text.")
        tokenizer = Tokenizer(recorded["vocabulary"], [tuple(merge) for merge in recorded["merges"]], str(folder))
        network = build_strict(lambda: TextTransformer(settings), own, str(folder))
        facts = [settings.model_dump(), tokenizer.vocabulary, tokenizer.merges]
        return TextTower(network, tokenizer, identity(reference, "clip-text", tensors_hash(own, facts)), pair["scale"])
    tower = recall(recorded, lambda place: load(place, recorded.get("vocabulary")), reference, _beside(folder, recorded))
    if "text_projection.weight" not in weights:
        tower.scale = pair["scale"]
        return tower
    projection = _linear(weights, "text_projection.", tower.dim, pair["dim"], folder)
    found = tensors_hash(projection.state_dict(), [recorded["weights_hash"]])
    return MappedTower(tower, projection, identity(reference, "pair-text", found), pair["scale"])


def _read(reference: str) -> tuple[Path, Description, dict[str, torch.Tensor]]:
    folder = find_model(reference)
    saved = load_config(folder)
    if PAIR not in saved:
        raise UsageError(f"{reference} is no model of video and text", "vid pretrain --preset contrastive/video-text-... makes one")
    return folder, saved, load_weights(folder)


def _linear(weights: dict[str, torch.Tensor], prefix: str, before: int, after: int, folder: Path) -> nn.Linear:
    return build_strict(lambda: nn.Linear(before, after, bias=False), encoder_weights(weights, prefix), str(folder))


def _beside(folder: Path, recorded: dict[str, Any]) -> str | None:
    """A tower that lies in the model folder, under the name that it had; None where there is none."""
    there = folder / Path(recorded["reference"]).name
    return str(there) if there.exists() else None
