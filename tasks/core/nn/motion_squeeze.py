"""MotionSqueeze: motion features from the matches between neighbouring feature maps (Kwon et al., ECCV 2020; thesis section 3.3)."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.nn.config import MotionConfig
from tasks.core.nn.precision import full_precision


class MotionSqueeze(nn.Module):
    """Adds to every feature map what moved between it and the next one: F' = F + M.

    Args:
        channels: C of the feature maps.
    """

    def __init__(self, channels: int, config: MotionConfig):
        super().__init__()
        self.config = config
        widths = (3, 16, 32, 64, channels)
        self.transform = nn.Sequential(*(_separable(a, b, 7 if a == 3 else 3) for a, b in itertools.pairwise(widths)))

    def forward(self, features: torch.Tensor, segments: int) -> torch.Tensor:
        """(n * T, C, h, w) with T = `segments` -> same shape. The last map of a clip has no next one: it gets the motion of the one
        before.
        """
        maps = self.match(features, segments)
        motion = self.transform(maps.flatten(0, 1).to(features.dtype)).unflatten(0, maps.shape[:2])
        motion = torch.cat([motion, motion[:, -1:]], 1)
        return features + motion.flatten(0, 1)

    def match(self, features: torch.Tensor, segments: int) -> torch.Tensor:
        """Displacement and confidence between neighbours.

        Args:
            features: (n * T, C, h, w), T = `segments` >= 2.

        Returns:
            (n, T - 1, 3, h, w) float32: displacement to the right and downwards, in units of the largest one, in [-1, 1]; confidence
            (cosine of the best match) in [0, 1].
        """
        if segments < 2:
            raise ValueError("motion needs clips of at least 2 frames")
        with torch.autocast(features.device.type, enabled=False):  # at temperature 0.01 a bf16 cosine is too coarse
            clips = unit(full_precision(features)).unflatten(0, (-1, segments))
            first, second = clips[:, :-1], clips[:, 1:]
            scores = correlation(first.flatten(0, 1), second.flatten(0, 1), self.config.patch)
            maps = displacement(scores, self.config.sigma, self.config.temperature)
        return maps.unflatten(0, first.shape[:2])


def _separable(channels: int, out: int, kernel: int) -> nn.Sequential:
    """Depthwise and 1x1 convolution, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def unit(features: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) with unit length over channels; all-zero places stay zero."""
    return features * features.square().sum(1, keepdim=True).add(1e-6).rsqrt()


def correlation(first: torch.Tensor, second: torch.Tensor, patch: int) -> torch.Tensor:
    """ReLU of the products of every place of `first` with the `patch` x `patch` places around it in `second`.

    All pairs of places are multiplied in one batched matrix product and the near ones are picked. With 512 channels, 28 x 28 places
    and patch 15, forward and backward take a fiftieth of the time of 225 shifted products on one CPU thread, and half of that of
    matrix products row by row, which multiply less but move more.

    Args:
        first, second: (N, C, h, w) float32.

    Returns:
        (N, h, w, patch, patch) float32; the last two axes are the displacement downwards and to the right, from -(patch // 2) on;
        0 where it leaves the picture.
    """
    n, _, h, w = first.shape
    every = first.flatten(2).transpose(1, 2) @ second.flatten(2)
    index, inside = _neighbours(h, w, patch, first.device)
    near = every.gather(2, index.expand(n, -1, -1))
    return (near.relu() * inside).view(n, h, w, patch, patch)


def _neighbours(h: int, w: int, patch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For every place of an h x w map the numbers of the places around it, (h*w, patch*patch) int64, and 1 where they exist, else 0."""
    reach = torch.arange(patch, device=device) - patch // 2
    y = torch.arange(h, device=device)[:, None] + reach
    x = torch.arange(w, device=device)[:, None] + reach
    index = y.clamp(0, h - 1)[:, None, :, None] * w + x.clamp(0, w - 1)[None, :, None, :]
    inside = ((y >= 0) & (y < h))[:, None, :, None] & ((x >= 0) & (x < w))[None, :, None, :]
    return index.reshape(h * w, -1), inside.reshape(h * w, -1).float()


def displacement(scores: torch.Tensor, sigma: float, temperature: float) -> torch.Tensor:
    """Kernel soft argmax: the mean displacement under a softmax of the scores, weighed down away from the best one.

    Args:
        scores: (N, h, w, P, P) as `correlation` gives.
        sigma: width of the Gaussian around the best match, cells.

    Returns:
        (N, 3, h, w): to the right and downwards over P // 2, and the best score.
    """
    patch = scores.shape[-1]
    flat = scores.flatten(3)
    confidence, best = flat.max(-1)
    reach = torch.arange(patch, device=scores.device, dtype=scores.dtype)
    down = torch.exp((reach - (best // patch)[..., None]).square() / (-2 * sigma**2))
    right = torch.exp((reach - (best % patch)[..., None]).square() / (-2 * sigma**2))
    kernel = (down[..., :, None] * right[..., None, :]).flatten(3)
    weights = F.softmax(kernel * flat / temperature, -1).view_as(scores)
    along = reach / (patch // 2) - 1
    return torch.stack([weights.sum(-2) @ along, weights.sum(-1) @ along, confidence], 1)
