"""Tells normal frames from spatial pseudo-anomalies by features of a frozen image encoder (thesis section 4.3.3, table 4.1)."""

import torch
import torch.nn.functional as F
from torch import nn


class Discriminator(nn.Module):
    """Linear, ReLU, linear to one logit: 65,793 parameters from 512 features over 128 hidden units.

    Args:
        features: length of a feature vector.
        hidden: units between.
        normalize: bring features to length 1 first.
    """

    def __init__(self, features: int = 512, hidden: int = 128, normalize: bool = False):
        super().__init__()
        self.normalize = normalize
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(B, features)` float32 to logits `(B,)`, above 0 for anomalous."""
        if self.normalize:
            features = F.normalize(features, dim=-1)
        return self.layers(features).squeeze(-1)
