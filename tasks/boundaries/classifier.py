"""The boundary classifier: what lies before a candidate against what lies after it (thesis section 3.4.1)."""

import torch
from torch import nn

from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.resnet_tsm import MotionResNet


class BoundaryClassifier(nn.Module):
    """An encoder and a linear layer on the mean of the feature maps before a candidate and the mean of those after it.

    The thesis does not describe the head; this is the one of the PC baseline (Shou et al., ICCV 2021) with one output.

    Args:
        model: of the encoder.
        two_groups: TSM and MotionSqueeze see the frames before and those after the candidate as two clips; else as one.
    """

    def __init__(self, model: ResNetConfig, two_groups: bool = False):
        super().__init__()
        self.two_groups = two_groups
        self.encoder = MotionResNet(model)
        self.head = nn.Linear(2 * self.encoder.channels, 1)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Windows (B, 2 W, 3, S, S), normalised, to logits (B,)."""
        frames = video.shape[1]
        maps = self.encoder(video.flatten(0, 1), frames // 2 if self.two_groups else frames)
        before_after = maps.unflatten(0, (len(video), 2, frames // 2)).mean((2, 4, 5))
        return self.head(before_after.flatten(1)).squeeze(1)
