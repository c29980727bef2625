"""Pictures of a pseudo-anomaly folder: frames and masks as 8-bit PNG; those of flow are written by `core.flow.flow_png`."""

from pathlib import Path

import numpy as np


def write_picture(path: Path, picture: np.ndarray) -> None:
    """`(H, W, 3)` uint8 RGB or `(H, W)` bool (255 = True) as PNG."""
    from PIL import Image

    Image.fromarray(picture.astype(np.uint8) * 255 if picture.dtype == bool else picture).save(path, compress_level=3)
