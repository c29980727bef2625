"""Features brought to one scale, channel by channel."""

import torch
from torch import nn


class Standardized(nn.Module):
    """Features less their mean, over their standard deviation.

    Args:
        dim: channels.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def learn(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Takes over mean and deviation (dim,); a channel that never changes stays 0."""
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.deviation
