"""Where a picture is anomalous, laid over it in colour."""

import numpy as np

_MOST = 0.65  # opacity where the heat is highest
_PALETTE = "inferno"


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture with its heat map: what is not anomalous stays as it is, the rest is coloured the more the hotter it is.

    Args:
        picture: (H, W, 3) uint8 RGB.
        heat: (h, w) uint8, 255 the most; spread over the whole picture, smoothly.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    level = np.asarray(Image.fromarray(np.ascontiguousarray(heat)).resize((width, height), Image.Resampling.BILINEAR))
    opacity = _opacity()[level][..., None]
    mixed = picture.astype(np.uint16) * (255 - opacity) + _colours()[level] * opacity
    return ((mixed + 127) // 255).astype(np.uint8)


def _opacity() -> np.ndarray:
    """(256,) uint16 in [0, 255]."""
    return np.rint(np.arange(256) * _MOST).astype(np.uint16)


def _colours() -> np.ndarray:
    """(256, 3) uint16: the brighter part of the palette, since its dark end would only dim the picture."""
    import matplotlib

    shades = matplotlib.colormaps[_PALETTE](np.linspace(0.35, 1, 256))[:, :3]
    return np.rint(shades * 255).astype(np.uint16)
