"""What the autoencoders are trained for: to give back the normal clip, even where its pseudo-anomaly went in (thesis eqs. 4.4, 4.5)."""

import numpy as np
import torch

from tasks.core.nn.precision import full_precision


def replaced(rng: np.random.Generator, p: float) -> bool:
    """Whether a clip goes in as its pseudo-anomaly, all 16 frames of it: a Bernoulli draw per clip, p_s or p_t."""
    return bool(rng.random() < p)


def reconstruction_loss(output: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Squared error over all frames, channels and pixels, averaged: `|| A(I) - x ||^2 / (T C H W)`, and over the batch.

    Args:
        output: A(I), `(B, 3, T, S, S)`.
        normal: x, the clip without any pseudo-anomaly, whatever I was.

    Returns:
        scalar float32.
    """
    return (full_precision(output) - full_precision(normal)).square().mean()


def paired(clips: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets from clips in which a pseudo-anomaly follows the normal clip that it replaces.

    Args:
        clips: `(N + K, ...)`.
        number: `(N + K,)` int, 0 for a normal clip, 1 for its pseudo-anomaly.

    Returns:
        inputs `(N, ...)`, K of them replaced; targets `(N, ...)`, the normal clips.
    """
    normal = (number == 0).to(clips.device)
    targets = clips[normal]
    inputs = targets.clone()
    owner = normal.long().cumsum(0) - 1
    inputs[owner[~normal]] = clips[~normal]
    return inputs, targets
