"""Image-text models: pictures (or clips) and sentences as vectors of one space, whoever trained them.

from tasks.core.towers import load_pair
pair = load_pair("hf://openai/clip-vit-base-patch16")
print(pair.encode_pictures(frames) @ pair.encode_text(["a dog barks"]).T)  # frames: (T, H, W, 3) uint8 RGB; cosines
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from tasks.core import hub
from tasks.core.checkpoint import find_model, load_config, weights_hash
from tasks.core.errors import UsageError
from tasks.core.towers.clip_source import clip_kind
from tasks.core.towers.encoder import VideoEncoder, load_encoder
from tasks.core.towers.image import load_image_tower
from tasks.core.towers.pair import PAIR, load_pair_encoder, load_pair_text
from tasks.core.towers.text import load_text_tower

READERS = {"bridge": "bridge"}
"""Task in config.json of a model folder with both sides: the module below `core.towers` that opens them. It has

open_pictures(folder, saved, device) -> VideoEncoder
open_text(saved, source, reference, device) -> texts to (N, dim); has `source` (`core.towers.identity`), `dim`, and perhaps `scale`
"""


class Pair:
    """Both sides of an image-text model, each read when it is first used.

    Args:
        reference: as it was given.
        open_pictures: reads the encoder and the hash of its weights.
        open_text: reads the text tower; None: the model has none.

    Attributes:
        reference: as given.
        has_text: whether it knows sentences.
    """

    def __init__(self, reference: str, open_pictures: Callable[[], tuple[VideoEncoder, str]], open_text: Callable[[], Any] | None):
        self.reference, self.has_text = reference, open_text is not None
        self._open_pictures, self._open_text = open_pictures, open_text

    @cached_property
    def _seen(self) -> tuple[VideoEncoder, str]:
        return self._open_pictures()

    @property
    def pictures(self) -> VideoEncoder:
        """The encoder of pictures or clips; its `pooled` vectors are compared. Raises UsageError where it cannot be read."""
        return self._seen[0]

    @property
    def picture_hash(self) -> str:
        """Of the weights of the pictures' side."""
        return self._seen[1]

    @cached_property
    def text(self) -> Any:
        """The text tower: texts to `(N, dim)`, not normalised. Raises UsageError where the model has none or it cannot be read."""
        if self._open_text is None:
            raise UsageError(
                f"{self.reference} has no text tower: it knows no words", "CLIP models have one, and vid convert --bridge gives one"
            )
        return self._open_text()

    @property
    def text_hash(self) -> str:
        """Of the weights and the vocabulary of the text tower."""
        return self.text.source["weights_hash"]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.pictures.dim

    @property
    def scale(self) -> float | None:
        """What cosines are multiplied with before the softmax; None: unknown."""
        return getattr(self.text, "scale", None)

    @torch.no_grad()
    def encode_pictures(self, frames: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Vectors of length 1, `(B, dim)` float32, of what `VideoEncoder.forward` takes: `(T, H, W, 3)` uint8 is one clip."""
        return normalize(self.pictures(frames)["pooled"].float(), dim=1)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors of length 1, `(N, dim)` float32. Raises UsageError where the model has no text tower."""
        return normalize(self.text(list(texts)).float(), dim=1)

    def text_is_cut(self, text: str) -> bool:
        """Whether the text tower reads only the beginning of a text."""
        return is_cut(getattr(self.text, "tower", self.text), text)  # a map may stand behind it


def room_of(tower: Any) -> int | None:
    """Tokens that a text tower reads, CLIP's without those of its ends; None: any number."""
    return tower.context - 2 if hasattr(tower, "context") else tower.pooling["length"]


def is_cut(tower: Any, text: str) -> bool:
    """Whether a text tower, CLIP's or one of sentences, reads only the beginning of a text."""
    room = room_of(tower)
    if room is None:
        return False
    tokens = tower.tokenizer.encode(text) if hasattr(tower, "context") else tower.tokenizer(text, truncation=False)["input_ids"]
    return len(tokens) > room


def load_pair(reference: str, device: torch.device | str = "cpu", vocabulary: str | Path | None = None, text: str | None = None) -> Pair:
    """An image-text model; an encoder without a text tower is one that knows no words.

    Args:
        reference: a CLIP model (`clip_source.read_clip`), or a model folder, run folder or `hf://` id.
        device: where it computes.
        vocabulary: of a CLIP model, where its folder has none.
        text: where the text tower is now, of a model that records one; None: where it was.

    Raises:
        UsageError: there is no such model, or, later, the side asked for cannot be read.
    """
    place = hub.fetch_model(reference) if reference.startswith(hub.PREFIX) else Path(reference)
    if place.exists() and clip_kind(place):
        return Pair(reference, lambda: open_pictures(reference, device), lambda: load_text_tower(text or reference, device, vocabulary))
    saved = load_config(find_model(reference))
    reader = _reader(saved)
    opens = None if reader is None else lambda: reader.open_text(saved, reference, text, device)
    if PAIR in saved:
        opens = lambda: _pair_text(reference, device, vocabulary, text)  # noqa: E731
    return Pair(reference, lambda: open_pictures(reference, device), opens)


def open_pictures(reference: str, device: torch.device | str = "cpu") -> tuple[VideoEncoder, str]:
    """The encoder that a reference names, of clips or of pictures, and the hash of its weights.

    Args:
        reference: a CLIP model, or a model folder, run folder or `hf://` id.
        device: where it computes.

    Raises:
        UsageError: there is no such model, or it has no encoder of clips or pictures.
    """
    place = hub.fetch_model(reference) if reference.startswith(hub.PREFIX) else Path(reference)
    if place.exists() and clip_kind(place):
        tower = load_image_tower(reference, device)
        return tower, tower.source["weights_hash"]
    folder = find_model(reference)
    saved = load_config(folder)
    reader = _reader(saved)
    if reader is not None:
        return reader.open_pictures(folder, saved, device), weights_hash(folder)
    load = load_pair_encoder if PAIR in saved else load_encoder
    return load(str(folder), device), weights_hash(folder)


def _pair_text(reference: str, device: torch.device | str, vocabulary: str | Path | None, text: str | None) -> Any:
    """The text side of a video-text model."""
    tower = load_pair_text(reference, lambda there, own: load_text_tower(text or there, vocabulary=vocabulary or own))
    return tower.requires_grad_(False).to(device).eval()


def _reader(saved: dict[str, Any]) -> Any:
    name = READERS.get(saved["task"])
    return None if name is None else import_module(f"tasks.core.towers.{name}")
