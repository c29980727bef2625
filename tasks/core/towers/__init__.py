"""Frozen encoders of pictures, clips, text and sound; feature extraction.

from tasks.core.towers import load_encoder
encoder = load_encoder("runs/mine")
print(encoder(frames)["pooled"].shape)  # frames: (T, H, W, 3) uint8 RGB
"""

from typing import Any

__all__ = ["load_encoder"]


def __getattr__(name: str) -> Any:
    """`load_encoder`, imported when asked for: the settings in this package are read without torch."""
    if name in __all__:
        from tasks.core.towers.encoder import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
