"""Filling holes: what a hole is, how a fill is pasted back, and the fills that need no model.

As the CompVis release does it (the thesis' F_s): **1 is the hole**; whoever fills sees the picture without the hole's pixels; of the
prediction only the hole is used, `(1 - m) x + m prediction`.
"""

from typing import Protocol

import numpy as np

_TELEA_RADIUS_PX = 3


class Filler(Protocol):
    """Predicts what could be in holes."""

    def fill(self, frames: np.ndarray, masks: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Whole pictures, of which only the holes count.

        Args:
            frames: `(N, H, W, 3)` uint8 RGB.
            masks: `(N, H, W)` bool, True = hole.
            seeds: N seeds of 63 bits; frame i depends on its seed only, not on its place in the batch.

        Returns:
            `(N, H, W, 3)` uint8.
        """


def inpaint(filler: Filler, frames: np.ndarray, masks: np.ndarray, seeds: list[int]) -> np.ndarray:
    """Spatial pseudo-anomalies: frames with their holes filled; every pixel outside is bit-equal to the input.

    Args:
        frames: `(N, H, W, 3)` uint8 RGB.
        masks: `(N, H, W)` bool, True = hole.
        seeds: N.

    Returns:
        `(N, H, W, 3)` uint8.
    """
    return np.where(masks[..., None], filler.fill(frames, masks, seeds), frames)


class Telea:
    """OpenCV's inpainting by fast marching (Telea 2004): smooth, without any knowledge of the scene."""

    def fill(self, frames: np.ndarray, masks: np.ndarray, seeds: list[int]) -> np.ndarray:
        import cv2

        pairs = zip(frames, masks, strict=True)
        return np.stack([cv2.inpaint(frame, mask.astype(np.uint8), _TELEA_RADIUS_PX, cv2.INPAINT_TELEA) for frame, mask in pairs])


class Patch:
    """A piece of another place, moved into the hole: what LNTRA (Astrid et al., BMVC 2021) does with a rectangle.

    Args:
        donors: `(D, H', W', 3)` uint8, frames of another video, or of the same one where there is no other.
    """

    def __init__(self, donors: np.ndarray):
        self.donors = donors

    def fill(self, frames: np.ndarray, masks: np.ndarray, seeds: list[int]) -> np.ndarray:
        made = frames.copy()
        height, width = frames.shape[1:3]
        for picture, mask, seed in zip(made, masks, seeds, strict=True):
            rng = np.random.default_rng(seed)
            donor = fitted(self.donors[rng.integers(len(self.donors))], height, width)
            y, x = np.nonzero(mask)
            top, left = (int(rng.integers(side - (v.max() - v.min()))) for v, side in ((y, height), (x, width)))
            picture[y, x] = donor[y - y.min() + top, x - x.min() + left]
        return made


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """`(H', W', 3)` uint8 scaled to `(height, width, 3)`."""
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
