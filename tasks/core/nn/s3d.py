"""S3D without gating: Inception whose convolutions over space and over time are apart (Xie et al., ECCV 2018; CoCLR, section 4)."""

import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.nn.config import S3DConfig
from tasks.core.nn.pool import rectified_max_pool
from tasks.core.nn.shared_norm import batch_normed

MIXED = {  # channels of the four branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; pool and 1x1
    "3b": (64, (96, 128), (16, 32), 32),
    "3c": (128, (128, 192), (32, 96), 64),
    "4b": (192, (96, 208), (16, 48), 64),
    "4c": (160, (112, 224), (24, 64), 64),
    "4d": (128, (128, 256), (24, 64), 64),
    "4e": (112, (144, 288), (32, 64), 64),
    "4f": (256, (160, 320), (32, 128), 128),
    "5b": (256, (160, 320), (32, 128), 128),
    "5c": (384, (192, 384), (48, 128), 128),
}
_LAYERS = {"conv_1a": 0, "conv_2b": 1, "conv_2c": 1, "projection": 5}  # mixed_3x, 4x and 5x are 2, 3 and 4


class PlainConv(nn.Module):
    """A convolution over one place, batch norm, ReLU."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.conv = nn.Conv3d(channels, out, 1, bias=False)
        self.bn = nn.BatchNorm3d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, h, w) -> (B, out, T, h, w)."""
        return F.relu(batch_normed(self.bn, self.conv(x)), inplace=True)


class SeparableConv(nn.Module):
    """A square convolution over space, then one over time, each with batch norm and ReLU.

    Args:
        channels, out: in and out.
        kernel, stride: of both.
        rectified: the last ReLU; without it `rectified_max_pool` has to follow.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, rectified: bool = True):
        super().__init__()
        self.rectified = rectified
        pad = kernel // 2
        self.conv1 = nn.Conv3d(channels, out, (1, kernel, kernel), (1, stride, stride), (0, pad, pad), bias=False)
        self.conv2 = nn.Conv3d(out, out, (kernel, 1, 1), (stride, 1, 1), (pad, 0, 0), bias=False)
        self.bn1 = nn.BatchNorm3d(out)
        self.bn2 = nn.BatchNorm3d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, h, w) -> (B, out, T / stride, h / stride, w / stride), rounded up."""
        x = F.relu(batch_normed(self.bn1, self.conv1(x)), inplace=True)
        x = batch_normed(self.bn2, self.conv2(x))
        return F.relu(x, inplace=True) if self.rectified else x


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(self, channels: int, own: int, middle: tuple[int, int], narrow: tuple[int, int], pooled: int):
        super().__init__()
        self.branch0 = nn.Sequential(PlainConv(channels, own))
        self.branch1 = nn.Sequential(PlainConv(channels, middle[0]), SeparableConv(*middle, 3))
        self.branch2 = nn.Sequential(PlainConv(channels, narrow[0]), SeparableConv(*narrow, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), PlainConv(channels, pooled))
        self.channels = own + middle[1] + narrow[1] + pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, h, w) -> (B, channels, T, h, w)."""
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], 1)


class S3D(nn.Module):
    """The network up to its last map; 7,910,048 parameters at width 1, and 1,180,800 of a projection head of 128.

    Names of the parameters are those of CoCLR's code, but for capitals.

    Args:
        config: settings.

    Attributes:
        dim: channels of the last map, 1024 at width 1.
    """

    depth, output = 4, "map"

    def __init__(self, config: S3DConfig):
        super().__init__()
        self.config = config

        def scaled(channels: int) -> int:
            return max(2, round(channels * config.width))

        stem = scaled(64)
        self.conv_1a = SeparableConv(3, stem, 7, 2, rectified=False)
        self.conv_2b = PlainConv(stem, stem)
        self.conv_2c = SeparableConv(stem, scaled(192), 3, rectified=False)
        channels = scaled(192)
        for name, (own, middle, narrow, pooled) in MIXED.items():
            pairs = (tuple(scaled(c) for c in pair) for pair in (middle, narrow))
            block = Mixed(channels, scaled(own), *pairs, scaled(pooled))
            self.add_module(f"mixed_{name}", block)
            channels = block.channels
        self.dim = channels
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)
        self.projection = None
        if config.projection is not None:
            self.projection = nn.Sequential(
                nn.Conv3d(channels, channels, 1), nn.ReLU(inplace=True), nn.Conv3d(channels, config.projection, 1)
            )

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """The last feature map.

        Args:
            video: (B, 3, T, H, W) float, normalised.

        Returns:
            (B, dim, T / 8, H / 32, W / 32).
        """
        if video.device.type == "cpu":  # max pooling, and with it a small network, is 1.4 times as fast
            video = video.contiguous(memory_format=torch.channels_last_3d)
        pool = {"kernel": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)}
        x = rectified_max_pool(self.conv_1a(video), **pool)
        x = rectified_max_pool(self.conv_2c(self.conv_2b(x)), **pool)
        x = F.max_pool3d(self.mixed_3c(self.mixed_3b(x)), 3, 2, 1)
        for name in "bcdef":
            x = getattr(self, f"mixed_4{name}")(x)
        kernel = [min(2, side) for side in x.shape[2:]]  # clips of fewer than 16 frames have one moment left here
        x = F.max_pool3d(x, kernel, 2)
        return self.mixed_5c(self.mixed_5b(x))

    def outputs(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """What it makes of clips (the contract of `core.nn.encoders`).

        Args:
            video: (B, T, 3, H, W) float, normalised.

        Returns:
            `map` (B, dim, T / 8, H / 32, W / 32) of features >= 0; `pooled` (B, dim), their mean; with a projection head `projection`
            (B, projection) of length 1.
        """
        found = self(video.transpose(1, 2))
        pooled = found.mean((2, 3, 4))
        if self.projection is None:
            return {"map": found, "pooled": pooled}
        projected = self.projection(pooled[:, :, None, None, None]).flatten(1)
        return {"map": found, "pooled": pooled, "projection": F.normalize(projected, dim=1)}

    def layer_of(self, name: str) -> int:
        """Depth of a parameter for layer-wise learning rates: 0 the first convolution, 1 to 4 the stages between poolings, 5 the head."""
        part = name.split(".")[0]
        return int(part[6]) - 1 if part.startswith("mixed_") else _LAYERS[part]
