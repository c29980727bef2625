"""Frozen encoders of pictures, clips, text and sound; feature extraction.

from tasks.core.towers import load_encoder, load_image_tower, load_text_tower
encoder = load_encoder("runs/mine")
print(encoder(frames)["pooled"].shape)  # frames: (T, H, W, 3) uint8 RGB
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "load_encoder": "encoder",
    "load_image_tower": "image",
    "load_text_tower": "text",
    "load_pair": "image_text",
    "FrozenTower": "frozen",
}
__all__ = ["FrozenTower", "load_encoder", "load_image_tower", "load_pair", "load_text_tower"]


def __getattr__(name: str) -> Any:
    """What the package gives, imported when asked for: the settings in it are read without torch."""
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
