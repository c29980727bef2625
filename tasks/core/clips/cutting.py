"""What augmentation and testing share: squares of uint8 clips, and their levels as normalised numbers."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from tasks.core.clips import augment_ops as ops
from tasks.core.clips.config import AugmentConfig
from tasks.core.flow.flow import FLOW_SCALE, flow_pictures

_CHUNK_ELEMENTS = {"cpu": 1 << 20}  # what a processor's caches hold
_CHUNK_ELEMENTS_ELSEWHERE = 1 << 26  # few launches


def resized(clip: Tensor, size: list[int], resample: str = "bilinear") -> Tensor:
    """Antialiased resize of (T, C, H, W) uint8."""
    return F.resize(clip, size, F.InterpolationMode(resample), antialias=True)


def cut_side(size: int, augment: AugmentConfig) -> int:
    """Side of the squares that are cut out, px."""
    return size if augment.flow is None else size * FLOW_SCALE


def at_a_time(out: Tensor) -> int:
    """Rows of `out` worked on together."""
    return max(1, _CHUNK_ELEMENTS.get(out.device.type, _CHUNK_ELEMENTS_ELSEWHERE) // max(1, out[:1].numel()))


def fill(out: Tensor, squares: Iterator[Tensor], augment: AugmentConfig) -> None:
    """Levels from 0 to 255 of colours or flow, `(N, T, 3, S, S)`, from N uint8 squares as large as `cut_side` says."""
    if augment.flow is None:
        for place, square in zip(out, squares, strict=True):
            place.copy_(square)
    elif len(out):
        for part in out.split(at_a_time(out)):
            part.copy_(flow_pictures(torch.stack(list(islice(squares, len(part)))), augment.flow)).mul_(255)


class Normalize:
    """uint8 levels -> (level / 255 - mean) / std, per colour."""

    def __init__(self, augment: AugmentConfig):
        self.mean = np.array(augment.mean).reshape(1, 1, 3, 1, 1)
        self.std = np.array(augment.std).reshape(1, 1, 3, 1, 1)

    def __call__(self, unit: Tensor) -> Tensor:
        """(N, T, C, H, W) float32 in [0, 1], changed in place; flow of two channels takes the first two means and standard deviations."""
        mean, std = (ops.to_device(values[:, :, : unit.shape[2]], unit.device) for values in (self.mean, self.std))
        return unit.sub_(mean).div_(std)
