"""EfficientNet-Lite0, a small classifier of pictures (Tan and Le, ICML 2019, table 1; Lite: without squeeze-and-excitation, ReLU6, fixed
stem and head).
"""

import torch
import torch.nn.functional as F
from torch import nn

STAGES = ((1, 16, 1, 3, 1), (2, 24, 6, 3, 2), (2, 40, 6, 5, 2), (3, 80, 6, 3, 2), (3, 112, 6, 5, 1), (4, 192, 6, 5, 2), (1, 320, 6, 3, 1))
"""Blocks, channels, expansion, side of the kernel, stride of the first block."""
STEM, WIDTH = 32, 1280
"""Channels of the first convolution, and of the picture's feature."""
NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """A convolution of `ceil(size / stride)` outputs along a side; what is padded in excess of an even number goes behind."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` to `(N, C', ceil(H / stride), ceil(W / stride))`."""
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            short = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [short // 2, short - short // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def convolve(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and its norm."""
    return [SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False), nn.BatchNorm2d(outputs, eps=NORM_EPS)]


class Block(nn.Sequential):
    """An inverted bottleneck (MobileNetV2, Sandler et al., CVPR 2018): wider, along the picture, narrower; beside a residual where the
    shape stays.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        width = inputs * expansion
        wider = [*convolve(inputs, width, 1), nn.ReLU6()] if expansion > 1 else []
        super().__init__(*wider, *convolve(width, width, kernel, stride, width), nn.ReLU6(), *convolve(width, outputs, 1))
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
        self.stem = nn.Sequential(*convolve(3, STEM, 3, 2), nn.ReLU6())
        blocks, width = [], STEM
        for repeats, outputs, expansion, kernel, stride in STAGES:
            for number in range(repeats):
                blocks.append(Block(width, outputs, expansion, kernel, 1 if number else stride))
                width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*convolve(width, WIDTH, 1), nn.ReLU6())
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Normalised `(N, 3, S, S)` float to `(N, classes)`."""
        return self.classifier(self.head(self.blocks(self.stem(pictures))).mean((2, 3)))


def published_name(name: str) -> str | None:
    """Where a tensor is kept in the published file of EfficientNet-Lite0 (`efficientnet-lite0-57934424.pth`).

    Args:
        name: of a tensor of `EfficientNetLite`.
    """
    part, _, rest = name.partition(".")
    if part == "classifier":
        return f"_fc.{rest}"
    if part in ("stem", "head"):
        layer, _, tensor = rest.partition(".")
        return f"{({'stem': ('_conv_stem', '_bn0'), 'head': ('_conv_head', '_bn1')}[part])[int(layer)]}.{tensor}"
    number, layer, tensor = rest.split(".", 2)
    layers = ("_expand_conv", "_bn0", "", "_depthwise_conv", "_bn1", "", "_project_conv", "_bn2")
    return f"_blocks.{number}.{layers[int(layer) + (3 if number == '0' else 0)]}.{tensor}"
