"""Videos whose flow is known: a texture that slides by a different number of pixels from each frame to the next."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise that goes on at the edges, (H, W, 3) uint8."""
    coarse = torch.rand((1, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(torch.nn.functional.pad(coarse, (1, 1, 1, 1), mode="circular"), scale_factor=8, mode="bicubic")
    return (smooth[0, :, 8:-8, 8:-8].clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()


def write_sliding(folder: Path, shifts: list[int], height: int = 64, width: int = 96, seed: int = 0) -> Path:
    """A folder of pictures, one more than there are shifts, px to the right."""
    folder.mkdir(parents=True)
    picture = texture(height, width, seed)
    for number, shift in enumerate([0, *np.cumsum(shifts)]):
        Image.fromarray(np.roll(picture, int(shift), 1)).save(folder / f"{number:03d}.png")
    return folder
