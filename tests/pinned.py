"""What makes pinned numbers hold on every CPU: weights drawn by numpy. The arithmetic is that of the fixture `float64`."""

import numpy as np
import torch


def same_everywhere(module: torch.nn.Module, vectors: float = 0.0) -> torch.nn.Module:
    """The module with matrices drawn by numpy, since torch's versions fill them differently, and biases of 0.

    Args:
        vectors: standard deviation of what is added to biases and to the scales of norms, which begin as 0 and 1.
    """
    draws = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = torch.from_numpy(draws.standard_normal(parameter.shape))
            start = 0.0 if name.endswith("bias") else parameter
            parameter.copy_(0.1 * drawn if parameter.ndim > 1 else start + vectors * drawn)
    return module
