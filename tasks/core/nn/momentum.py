"""A network that follows another by a moving average of its weights (mean teacher; MoCo, He et al., CVPR 2020, equation 2)."""

import copy
from collections.abc import Iterable

import torch
from torch import nn


def follower(module: nn.Module) -> nn.Module:
    """A copy that gets no gradients and is moved by `follow`."""
    made = copy.deepcopy(module)
    made.requires_grad_(False)
    return made


@torch.no_grad()
def follow(followers: Iterable[nn.Parameter], leaders: Iterable[nn.Parameter], momentum: float) -> None:
    """follower <- momentum * follower + (1 - momentum) * leader, for two sequences of parameters of equal shapes.

    Buffers are not touched: the batch norms of a key encoder in training mode keep statistics of their own, as in MoCo.
    """
    for slow, fast in zip(followers, leaders, strict=True):
        slow.lerp_(fast.to(slow.dtype), 1 - momentum)
