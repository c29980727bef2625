"""MixUp and CutMix for batches of clips, on the batch's device; see `tasks.core.clips.augment` for where randomness comes from."""

import numpy as np
import torch
from torch import Tensor

from tasks.core.clips import augment_ops as ops
from tasks.core.clips.config import AugmentConfig
from tasks.core.errors import InputError

_STREAM = 1


class Mixer:
    """MixUp (Zhang et al. 2017) and CutMix (Yun et al. 2019) with soft, smoothed targets.

    Each clip decides for itself, from its own seed, whether it is mixed, how, and how much (timm's "element" mode; torchvision's
    `MixUp` / `CutMix` draw once per batch from the global random state). Its partner is fixed: the batch is cut into pairs of
    neighbours, clip 0 with 1, 2 with 3, so that a batch split over two processes at an even place gives the same pairs as the whole
    batch. A last clip without a neighbour is left as it is. CutMix cuts the same box out of all frames.

    Args:
        augment: `mixup`, `cutmix`, `mix_prob`, `switch_prob` are used.
        n_classes: number of classes.
        smoothing: label smoothing, 0..1: share of the target that is spread evenly over all classes.
        repeats: clips per video when a batch holds them as neighbours; pairs are then made across videos, not within.
    """

    def __init__(self, augment: AugmentConfig, n_classes: int, smoothing: float = 0.0, repeats: int = 1):
        self.augment = augment
        self.n_classes = n_classes
        self.smoothing = smoothing
        self.repeats = repeats

    def __call__(self, video: Tensor, label: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            video: float (N, T, C, H, W).
            label: int64 (N,), 0..n_classes-1; best on the CPU, where it is checked.
            seed: int64 (N,), best on the CPU.

        Returns:
            the mixed video (the same tensor if nothing is to be mixed) and float32 targets (N, n_classes), rows summing to 1,
            on the device of `video`.

        Raises:
            InputError: a label on the CPU is out of range.
        """
        if label.device.type == "cpu" and len(label) and not 0 <= int(label.min()) <= int(label.max()) < self.n_classes:
            raise InputError(f"a training clip has label number {int(label.min())}..{int(label.max())}, outside 0..{self.n_classes - 1}")
        classes = torch.arange(self.n_classes, device=video.device)
        label = label.to(video.device, non_blocking=True)
        target = (label[:, None] == classes).float() * (1 - self.smoothing) + self.smoothing / self.n_classes
        if not self.augment.mixup and not self.augment.cutmix:
            return video, target
        share, boxes = self._draw(ops.host(seed), *video.shape[-2:])
        partner = self._partners(len(video), video.device)
        mixed = torch.lerp(video[partner], video, self._weights(share, boxes, video))
        kept = ops.to_device(share, video.device)[:, None]
        return mixed, torch.lerp(target[partner], target, kept)

    def _partners(self, n: int, device: torch.device) -> Tensor:
        index = torch.arange(n)
        group = index // self.repeats
        partner = index + self.repeats * (1 - 2 * (group % 2))
        return torch.where(partner < n, partner, index).to(device, non_blocking=True)

    def _draw(self, seeds: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Own share of each clip (N,) and its CutMix box (N, 4): top, left, bottom, right; an empty box means MixUp."""
        augment = self.augment
        share, boxes = np.ones(len(seeds)), np.zeros((len(seeds), 4), dtype=np.int64)
        for row, seed in enumerate(seeds.tolist()):
            generator = ops.sample_generator(seed, _STREAM)
            apply, switch, y, x = generator.random(4)
            if apply >= augment.mix_prob:
                continue
            cut = augment.cutmix > 0 and (augment.mixup == 0 or switch < augment.switch_prob)
            alpha = augment.cutmix if cut else augment.mixup
            share[row] = generator.beta(alpha, alpha)
            if cut:
                boxes[row], share[row] = _cutmix_box(share[row], y, x, height, width)
        return share, boxes

    def _weights(self, share: np.ndarray, boxes: np.ndarray, video: Tensor) -> Tensor:
        """Weight of the clip itself at each pixel, (N, 1, 1, H or 1, W or 1): its share, or for CutMix 1 outside and 0 inside the box."""
        cut = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        weight = ops.to_device(np.where(cut, 1.0, share), video.device).to(video.dtype).view(-1, 1, 1, 1, 1)
        if not self.augment.cutmix:
            return weight
        top, left, bottom, right = ops.to_device(boxes, video.device).view(-1, 4, 1, 1, 1, 1).unbind(1)
        y = torch.arange(video.shape[-2], device=video.device)[:, None]
        x = torch.arange(video.shape[-1], device=video.device)
        return torch.where((y >= top) & (y < bottom) & (x >= left) & (x < right), 0.0, weight)


def _cutmix_box(share: float, y: float, x: float, height: int, width: int) -> tuple[tuple[int, int, int, int], float]:
    """A box of about (1 - share) of the frame around the point (y, x), cut at the border, and the share that it really leaves."""
    half = 0.5 * np.sqrt(1 - share)
    row, column, half_h, half_w = int(y * height), int(x * width), int(half * height), int(half * width)
    top, bottom = max(0, row - half_h), min(height, row + half_h)
    left, right = max(0, column - half_w), min(width, column + half_w)
    return (top, left, bottom, right), 1 - (bottom - top) * (right - left) / (height * width)
