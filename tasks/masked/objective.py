"""Targets and errors of masked reconstruction (TATS thesis, equation 5.6; AdaMAE's public normalisation)."""

import torch

from tasks.masked.config import TargetConfig
from tasks.masked.model import patchify, take


def normalize_cubes(cubes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per token and colour: `(v - mean) / (std + 1e-6)` with the unbiased deviation.

    Args:
        cubes: `(B, n, pixels, C)` float32 in [0, 1].

    Returns:
        normalised cubes, mean `(B, n, 1, C)` and `std + 1e-6` `(B, n, 1, C)`, with which a reconstruction can be brought back to pixels.
    """
    mean = cubes.mean(dim=2, keepdim=True)
    std = cubes.var(dim=2, unbiased=True, keepdim=True).sqrt() + 1e-6
    return (cubes - mean) / std, mean, std


def target_cubes(pixels: torch.Tensor, config: TargetConfig, tubelet: int, patch: int) -> torch.Tensor:
    """Un-normalised target of every token: `(B, T, C, H, W)` in [0, 1] to `(B, N, pixels, C)` float32.

    `motion` subtracts the clip's mean frame, so that the still background carries no error and only what moves is to be predicted.
    """
    pixels = pixels.float()
    if config.kind == "motion":
        pixels = pixels - pixels.mean(dim=1, keepdim=True)
    return patchify(pixels, tubelet, patch)


def masked_targets(pixels: torch.Tensor, masked: torch.Tensor, config: TargetConfig, tubelet: int, patch: int) -> torch.Tensor:
    """Targets `(B, n_masked, pixels*C)` float32 of the masked tokens `(B, n_masked)`."""
    cubes = take(target_cubes(pixels, config, tubelet, patch), masked)
    if config.normalize:
        cubes = normalize_motion(cubes) if config.kind == "motion" else normalize_cubes(cubes)[0]
    return cubes.flatten(2)


def normalize_motion(cubes: torch.Tensor) -> torch.Tensor:
    """Scales motion targets by one deviation per clip (over all given tokens), so that still tokens stay near zero instead of becoming
    noise.
    """
    std = cubes.flatten(1).std(dim=1)[:, None, None, None]
    return cubes / (std + 1e-3)


def token_errors(prediction: torch.Tensor, target: torch.Tensor, loss: str) -> torch.Tensor:
    """Mean error of each token over its numbers: two `(B, n, d)` to `(B, n)`, in float32."""
    difference = prediction.float() - target
    return difference.square().mean(-1) if loss == "mse" else difference.abs().mean(-1)
