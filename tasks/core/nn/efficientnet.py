"""EfficientNet-Lite0, a small classifier of pictures (Tan and Le, ICML 2019, table 1; Lite: without squeeze-and-excitation, ReLU6, fixed
stem and head).

It is used as it was trained, so its norms are folded into its convolutions.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.errors import InputError

STAGES = ((1, 16, 1, 3, 1), (2, 24, 6, 3, 2), (2, 40, 6, 5, 2), (3, 80, 6, 3, 2), (3, 112, 6, 5, 1), (4, 192, 6, 5, 2), (1, 320, 6, 3, 1))
"""Blocks, channels, expansion, side of the kernel, stride of the first block."""
STEM, WIDTH = 32, 1280
"""Channels of the first convolution, and of the picture's feature."""
NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """A convolution of `ceil(size / stride)` outputs along a side; what is padded in excess of an even number goes behind."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` to `(N, C', ceil(H / stride), ceil(W / stride))`."""
        if self.stride == (1, 1):  # as much on both sides, without a copy
            return super().forward(x)
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            short = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [short // 2, short - short // 2]
        return super().forward(F.pad(x, pads))


class Block(nn.Sequential):
    """An inverted bottleneck (MobileNetV2, Sandler et al., CVPR 2018): wider, along the picture, narrower; beside a residual where the
    shape stays.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        width = inputs * expansion
        wider = [SameConv(inputs, width, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        super().__init__(*wider, SameConv(width, width, kernel, stride, groups=width), nn.ReLU6(inplace=True), SameConv(width, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, inputs, H, W)` to `(N, outputs, H', W')`."""
        found = super().forward(x)
        return x + found if self.residual else found


class EfficientNetLite(nn.Module):
    """Pictures to logits.

    Args:
        classes: how many are told apart.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(SameConv(3, STEM, 3, 2), nn.ReLU6(inplace=True))
        blocks, width = [], STEM
        for repeats, outputs, expansion, kernel, stride in STAGES:
            for number in range(repeats):
                blocks.append(Block(width, outputs, expansion, kernel, 1 if number else stride))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(SameConv(width, WIDTH, 1), nn.ReLU6(inplace=True))
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Normalised `(N, 3, S, S)` float to `(N, classes)`."""
        return self.classifier(self.head(self.blocks(self.stem(pictures))).mean((2, 3)))


def folded(tensors: Mapping[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Weights of an `EfficientNetLite` from those of the published file, whose convolutions are followed by norms.

    Args:
        tensors: of `efficientnet-lite0-57934424.pth` and its like.
        source: named in errors.

    Raises:
        InputError: a tensor is missing, or one has no place here.
    """
    found, left = {}, dict(tensors)

    def take(name: str) -> torch.Tensor:
        if name not in left:
            raise InputError(f"{source} is no EfficientNet-Lite0: it lacks {name}")
        return left.pop(name).float()

    for ours, convolution, norm in _places():
        weight, gain, bias = take(f"{convolution}.weight"), take(f"{norm}.weight"), take(f"{norm}.bias")
        mean, variance = take(f"{norm}.running_mean"), take(f"{norm}.running_var")
        left.pop(f"{norm}.num_batches_tracked", None)
        gain = gain / (variance + NORM_EPS).sqrt()
        found |= {f"{ours}.weight": weight * gain[:, None, None, None], f"{ours}.bias": bias - mean * gain}
    found |= {f"classifier.{part}": take(f"_fc.{part}") for part in ("weight", "bias")}
    if left:
        raise InputError(f"{source} is no EfficientNet-Lite0: it has {min(left)!r:.60}")
    return found


def _places() -> Iterator[tuple[str, str, str]]:
    """Our name of a convolution, its name in the published file, and that of the norm behind it."""
    yield "stem.0", "_conv_stem", "_bn0"
    parts = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    for number in range(sum(stage[0] for stage in STAGES)):
        for place, (convolution, norm) in enumerate(parts if number else parts[1:]):
            yield f"blocks.{number}.{2 * place}", f"_blocks.{number}.{convolution}", f"_blocks.{number}.{norm}"
    yield "head.0", "_conv_head", "_bn1"
