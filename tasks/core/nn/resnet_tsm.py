"""A ResNet that sees motion: a temporal shift in every block and a MotionSqueeze layer after conv3_x (thesis section 3.3, table 3.1)."""

import torch
from torch import nn

from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.motion_squeeze import MotionSqueeze

_DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet18": (2, 2, 2, 2)}
_LAYERS = {"layer1": 1, "layer2": 2, "motion": 2, "layer3": 3, "layer4": 4}  # what is missing belongs to the stem


def temporal_shift(features: torch.Tensor, segments: int, div: int) -> torch.Tensor:
    """TSM (Lin et al., ICCV 2019): the first C // div channels come from the frame before, the next C // div from the frame after.

    Args:
        features: (n * T, C, h, w), the T = `segments` frames of a clip contiguous.
        div: 1 / share of the channels that move each way.

    Returns:
        same shape; zero where a clip has no frame before or after.
    """
    clips = features.unflatten(0, (-1, segments))
    fold = clips.shape[2] // div
    past, future, rest = clips.split([fold, fold, clips.shape[2] - 2 * fold], 2)
    past = torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], 1)
    future = torch.cat([future[:, 1:], torch.zeros_like(future[:, :1])], 1)
    return torch.cat([past, future, rest], 2).flatten(0, 1)


class Block(nn.Module):
    """A residual block of ResNet whose branch sees shifted features; parameter names are torchvision's.

    Args:
        inside: channels of the 3x3 convolutions.
        bottleneck: 1x1, 3x3, 1x1 with four times the channels; else 3x3, 3x3.
        shift_div: of `temporal_shift`; None: no shift.
    """

    def __init__(self, channels: int, inside: int, stride: int, bottleneck: bool, shift_div: int | None):
        super().__init__()
        self.shift_div = shift_div
        out = inside * (4 if bottleneck else 1)
        if bottleneck:
            plan = [(channels, inside, 1, 1), (inside, inside, 3, stride), (inside, out, 1, 1)]
        else:
            plan = [(channels, inside, 3, stride), (inside, out, 3, 1)]
        self.depth = len(plan)
        for i, (a, b, kernel, step) in enumerate(plan, 1):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, kernel, step, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor, segments: int | None) -> torch.Tensor:
        """(N, C, h, w) -> (N, out, h / stride, w / stride); `segments` None: no shift."""
        shortcut = x if self.downsample is None else self.downsample(x)
        if segments is not None and self.shift_div is not None:
            x = temporal_shift(x, segments, self.shift_div)
        for i in range(1, self.depth + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            if i < self.depth:
                x = self.relu(x)
        x += shortcut
        return self.relu(x)


class Stage(nn.Sequential):
    """Blocks one after the other."""

    def forward(self, x: torch.Tensor, segments: int | None) -> torch.Tensor:
        for block in self:
            x = block(x, segments)
        return x


class MotionResNet(nn.Module):
    """ResNet-50 or -18 without pooling and classifier, with TSM and MotionSqueeze for clips.

    The parameters apart from `motion.*` have torchvision's names and, at width 64, its shapes.

    Attributes:
        channels, dim: of the last feature map; 2048 for resnet50 at width 64.
    """

    depth, output = 4, "map"

    def __init__(self, config: ResNetConfig):
        super().__init__()
        self.config = config
        bottleneck, width = config.size == "resnet50", config.width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for i, depth in enumerate(_DEPTHS[config.size]):
            inside = width * 2**i
            blocks = []
            for number in range(depth):
                stride = 2 if i and number == 0 else 1
                blocks.append(Block(channels, inside, stride, bottleneck, config.shift_div if config.shift else None))
                channels = inside * (4 if bottleneck else 1)
            self.add_module(f"layer{i + 1}", Stage(*blocks))
            if i == 1:
                self.motion = MotionSqueeze(channels, config.motion) if config.motion else None
        self.channels = self.dim = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: torch.Tensor, segments: int | None = None) -> torch.Tensor:
        """The last feature map.

        Args:
            frames: (N, 3, H, W) float, normalised.
            segments: None: a plain ResNet, TSM and MotionSqueeze are passed over; T: N = n * T, the T frames of a clip contiguous.

        Returns:
            (N, channels, h, w), h = H / 32 and w = W / 32, rounded up.
        """
        x = self.early(frames, segments)
        if segments is not None and self.motion is not None:
            x = self.motion(x, segments)
        return self.layer4(self.layer3(x, segments), segments)

    def early(self, frames: torch.Tensor, segments: int | None = None) -> torch.Tensor:
        """Up to conv3_x, what the MotionSqueeze layer takes: (N, C, H / 8, W / 8)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(frames))))
        return self.layer2(self.layer1(x, segments), segments)

    def outputs(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """`map` `(B, channels, T, h, w)` of clips `(B, T, 3, H, W)` (the contract of `core.nn.encoders`); a clip of one frame is a picture,
        which TSM and MotionSqueeze are passed over for.
        """
        clips, frames = video.shape[:2]
        maps = self(video.flatten(0, 1), frames if frames > 1 else None)
        return {"map": maps.unflatten(0, (clips, frames)).transpose(1, 2)}

    def layer_of(self, name: str) -> int:
        """Depth of a parameter for layer-wise learning rates: 0 the stem, 1 to 4 the stages; MotionSqueeze belongs to the second."""
        return _LAYERS.get(name.split(".")[0], 0)
