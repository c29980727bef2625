"""What frozen text towers made of texts, kept on disk: texts are encoded once, however many runs need them."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
import torch

from tasks.core.errors import InputError
from tasks.core.reporter import Quiet, Reporter
from tasks.core.video.cache import cache_folder, write_cached

CHUNK = 4096
"""Texts after which what was made is written."""


class Encoder(Protocol):
    """A text tower: `source`, `dim`, and texts to `(N, dim)`."""

    source: dict
    dim: int

    def __call__(self, texts: Sequence[str]) -> torch.Tensor: ...


def text_features(tower: Encoder, texts: Sequence[str], folder: Path | None = None, reporter: Reporter | None = None) -> np.ndarray:
    """What a frozen tower makes of texts; of those that it has met before what was kept.

    A tower is told by the hash of its weights and vocabulary: of another tower nothing is taken, whatever its name. Several processes may
    use a folder at once.

    Args:
        tower: of `load_text_tower`.
        texts: any number, also repeated ones.
        folder: of the cache; None: `text` in that of the suite ($VID_CACHE).
        reporter: told how far it is.

    Returns:
        (N, dim) float32.

    Raises:
        InputError: a text gives a vector that is not finite.
    """
    own = (folder or cache_folder() / "text") / tower.source["weights_hash"]
    keys = [_key(text) for text in texts]
    known = _load(own, tower)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    left = list(missing.items())
    with (reporter or Quiet()).progress("encoding texts", len(left), "text") as bar:
        for first in range(0, len(left), CHUNK):
            part = left[first : first + CHUNK]
            made = tower([text for _, text in part]).float().cpu().numpy()
            bad = ~np.isfinite(made).all(1)
            if bad.any():
                raise InputError(f"the text tower makes no finite vector of {part[int(bad.argmax())][1]!r:.60}")
            names = [key for key, _ in part]
            _save(own, names, made, tower)
            known |= zip(names, made, strict=True)
            bar.advance(len(part))
    return np.stack([known[key] for key in keys]) if keys else np.zeros((0, tower.dim), np.float32)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def _load(folder: Path, tower: Encoder) -> dict[bytes, np.ndarray]:
    """Text's key -> vector, of all files that are whole and of this tower."""
    found: dict[bytes, np.ndarray] = {}
    for file in sorted(folder.glob("*.npz")):
        try:
            with np.load(file, allow_pickle=False) as kept:
                keys, features, made_by = kept["keys"], kept["features"], str(kept["tower"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            continue
        fits = features.shape == (len(keys), tower.dim) and keys.shape[1:] == (16,) and keys.dtype == np.uint8
        if fits and made_by == tower.source["weights_hash"] and np.isfinite(features).all():
            found |= zip((key.tobytes() for key in keys), features, strict=True)
    return found


def _save(folder: Path, keys: list[bytes], features: np.ndarray, tower: Encoder) -> None:
    content = io.BytesIO()
    numbers = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
    np.savez(content, keys=numbers, features=features, tower=np.asarray(tower.source["weights_hash"]))
    write_cached(folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:16]}.npz", content.getvalue())
