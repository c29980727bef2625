"""Targets and errors of masked reconstruction (TATS thesis, equation 5.6; AdaMAE's public normalisation)."""

from collections.abc import Sequence

import torch
from torch import nn

from tasks.core.nn.config import TargetConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.vit import cubes_at


class ReconstructionLoss(nn.Module):
    """Reconstruction errors of masked tokens, float32 whatever the precision of the prediction.

    Args:
        tubelet: frames of a token.
        patch: side of a token, px.
        mean: of the normalisation of the video, per colour.
        std: of the same.
    """

    compile_region = True

    def __init__(self, target: TargetConfig, tubelet: int, patch: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.target, self.tubelet, self.patch = target, tubelet, patch
        self.register_buffer("mean", torch.tensor(mean).view(1, 1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 1, 3, 1, 1), persistent=False)

    def forward(self, video: torch.Tensor, masked: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Normalised video `(B, T, 3, S, S)`, masked tokens and their prediction `(B, n_masked, pixels*3)`, to `(B, n_masked)`."""
        with torch.autocast(video.device.type, enabled=False):
            target = masked_targets(video, masked, self.target, self.tubelet, self.patch, self.mean, self.std)
            return token_errors(prediction, target, self.target.loss)


EPS = 1e-6
"""Added to the standard deviation of levels in [0, 1]."""


def normalize_cubes(
    cubes: torch.Tensor, pixels_dim: int = 2, eps: torch.Tensor | float = EPS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per token and colour: `(v - mean) / (std + eps)` with the unbiased standard deviation.

    Args:
        cubes: `(B, n, pixels, C)` float32.
        pixels_dim: where the pixels are.
        eps: 1e-6 for levels in [0, 1].

    Returns:
        normalised cubes, mean `(B, n, 1, C)` and `std + eps` `(B, n, 1, C)`, with which a reconstruction can be brought back to pixels.
    """
    mean = cubes.mean(dim=pixels_dim, keepdim=True)
    centered = cubes - mean
    std = (centered.square().sum(pixels_dim, keepdim=True) / (cubes.shape[pixels_dim] - 1)).sqrt() + eps  # torch's var is slow
    return centered / std, mean, std


def masked_targets(
    video: torch.Tensor,
    masked: torch.Tensor,
    config: TargetConfig,
    tubelet: int,
    patch: int,
    mean: torch.Tensor | float = 0.0,
    std: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Targets `(B, n_masked, pixels*C)` float32 of the masked tokens `(B, n_masked)`, colour last.

    `motion` subtracts the clip's mean frame, so that the still background carries no error and only what moves is to be predicted.

    Args:
        video: `(B, T, C, H, W)`.
        mean, std: of its normalisation, `(1, 1, C, 1, 1)`; targets are made from levels in [0, 1].
    """
    video = full_precision(video)
    if config.kind == "motion":
        video, mean = video - video.mean(dim=1, keepdim=True), 0.0
    mean, std = (v.view(1, 1, -1, 1) if isinstance(v, torch.Tensor) else v for v in (mean, std))
    cubes = cubes_at(video.contiguous(), masked, tubelet, patch)
    if config.kind == "pixels" and config.normalize:
        return normalize_cubes(cubes, 3, EPS / std)[0].transpose(2, 3).flatten(2)  # as of levels: scale and shift cancel
    cubes = cubes * std + mean
    if config.normalize:
        cubes = normalize_motion(cubes)
    return cubes.transpose(2, 3).flatten(2)


def normalize_motion(cubes: torch.Tensor) -> torch.Tensor:
    """Scales motion targets by one standard deviation per clip (over all given tokens), so that still tokens stay near zero instead of
    becoming noise.
    """
    flat = cubes.flatten(1)
    std = ((flat - flat.mean(1, keepdim=True)).square().sum(1) / (flat.shape[1] - 1)).sqrt()[:, None, None, None]
    return cubes / (std + 1e-3)


def token_errors(prediction: torch.Tensor, target: torch.Tensor, loss: str) -> torch.Tensor:
    """Mean error of each token over its numbers: two `(B, n, d)` to `(B, n)`, in float32."""
    difference = full_precision(prediction) - target
    return difference.square().mean(-1) if loss == "mse" else difference.abs().mean(-1)


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows `index` `(B, n)` of `x` `(B, N, ...)`, giving `(B, n, ...)`."""
    shape = index.shape + (1,) * (x.ndim - 2)
    return x.gather(1, index.view(shape).expand(-1, -1, *x.shape[2:]))
