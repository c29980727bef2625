"""2D3D-ResNet and ConvGRU: the encoder of DPC (Han et al., ICCV workshops 2019) and MemDPC (Han et al., ECCV 2020).

A clip is cut into blocks of a few frames. Every block becomes one feature map, and a recurrent network over the blocks aggregates them.
"""

import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.pool import rectified_max_pool

_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_WIDTHS = (1, 2, 4, 4)  # of the stages; the last one is as wide as the one before
_FIRST_3D = 2  # res4 and res5 convolve over time


class BlockNorm(nn.BatchNorm3d):
    """Batch norm that may take the statistics of its batch in evaluation mode too.

    DPC's public code builds its norms without running statistics. Here they are kept all the same, for classifiers that start from it.

    Attributes:
        of_batch: whether it does.
    """

    def __init__(self, channels: int, of_batch: bool):
        super().__init__(channels)
        self.of_batch = of_batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.of_batch and not self.training:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return super().forward(x)


class ResidualBlock(nn.Module):
    """Two 1x3x3 or 3x3x3 convolutions and a shortcut; parameter names are those of torchvision.

    Args:
        channels, out: in and out.
        stride: of the first convolution, over space and, in three dimensions, over time.
        temporal: three dimensions.
        rectified: a ReLU behind the sum.
        of_batch: of `BlockNorm`.
    """

    def __init__(self, channels: int, out: int, stride: int, temporal: bool, rectified: bool, of_batch: bool):
        super().__init__()
        depth, steps = (3, (stride,) * 3) if temporal else (1, (1, stride, stride))
        shape, padding = (depth, 3, 3), (depth // 2, 1, 1)
        self.conv1 = nn.Conv3d(channels, out, shape, steps, padding, bias=False)
        self.bn1 = BlockNorm(out, of_batch)
        self.conv2 = nn.Conv3d(out, out, shape, 1, padding, bias=False)
        self.bn2 = BlockNorm(out, of_batch)
        self.rectified = rectified
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv3d(channels, out, 1, steps, bias=False), BlockNorm(out, of_batch))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, t, h, w) -> (N, out, ...)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        x += shortcut  # a norm's backward pass needs its input alone
        return F.relu(x, inplace=True) if self.rectified else x


class ResNet2d3d(nn.Module):
    """ResNet-18 or -34 whose res2 and res3 see single frames and whose res4 and res5 convolve over time too.

    res5 is as wide as res4, and its last block has no ReLU: features are signed.

    Attributes:
        dim: channels of what comes out, 256 at width 64.
    """

    def __init__(self, config: R2D3DConfig):
        super().__init__()
        width, of_batch = config.width, config.statistics == "batch"
        self.conv1 = nn.Conv3d(3, width, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = BlockNorm(width, of_batch)
        channels, depths = width, _DEPTHS[config.size]
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                stride = 2 if stage and number == 0 else 1
                last = stage == len(depths) - 1 and number == depth - 1
                out = width * _WIDTHS[stage]
                blocks.append(ResidualBlock(channels, out, stride, stage >= _FIRST_3D, not last, of_batch))
                channels = out
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.dim = channels
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        """(N, 3, L, H, W) float, normalised -> (N, dim, ceil(L / 4), ceil(H / 32), ceil(W / 32))."""
        x = rectified_max_pool(self.bn1(self.conv1(blocks)), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ConvGRU(nn.Module):
    """A gated recurrent unit at every place of a map, with the same weights at all of them (kernel 1x1).

    u = sigmoid(Wu [x; h]), r = sigmoid(Wr [x; h]), o = tanh(Wo [x; r h]), h' = (1 - u) h + u o, and dropout on h', which is what the next
    step sees. Weights begin orthogonal, biases 0.

    Args:
        dim: channels of input and state.
        dropout: probability.
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.reset_gate, self.update_gate, self.out_gate = (nn.Conv2d(2 * dim, dim, 1) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        orthogonal(self)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The states after every step, `(B, N, dim, h, w)`, of maps of the same shape; the first state is 0."""
        state, states = torch.zeros_like(maps[:, 0]), []
        for step in range(maps.shape[1]):
            state = self.step(maps[:, step], state)
            states.append(state)
        return torch.stack(states, 1)

    def step(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The state after one more map; all `(B, dim, h, w)`."""
        both = torch.cat([x, state], 1)
        update, reset = torch.sigmoid(self.update_gate(both)), torch.sigmoid(self.reset_gate(both))
        new = torch.tanh(self.out_gate(torch.cat([x, reset * state], 1)))
        return self.dropout((1 - update) * state + update * new)


def orthogonal(module: nn.Module, gain: float = 1.0) -> None:
    """Orthogonal weights and biases of 0, as the aggregators and predictors of DPC (gain 1) and MemDPC (.1) begin."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.orthogonal_(parameter, gain)
        else:
            nn.init.zeros_(parameter)


class BlockEncoder(nn.Module):
    """Clips to feature maps of their blocks and to contexts.

    What a classifier sees is the context of all blocks, of features that are rectified and then averaged over time; in pretraining they
    are averaged and then rectified (both as in the public code).

    Attributes:
        dim: of a token: channels of a context, twice as many with two directions.
    """

    depth, output = 4, "tokens"

    def __init__(self, config: R2D3DConfig):
        super().__init__()
        self.config = config
        self.backbone = ResNet2d3d(config)
        self.aggregator = ConvGRU(self.backbone.dim, config.dropout)
        self.backward_aggregator = ConvGRU(self.backbone.dim, config.dropout) if config.bidirectional else None
        self.dim = self.backbone.dim * (2 if config.bidirectional else 1)

    def aggregators(self) -> list[ConvGRU]:
        """One, or two: the second takes the blocks backwards."""
        return [self.aggregator] + ([] if self.backward_aggregator is None else [self.backward_aggregator])

    def maps(self, video: torch.Tensor) -> torch.Tensor:
        """The map of every block before it is averaged over time, signed.

        Args:
            video: (B, N * L, 3, S, S) float, normalised; L is `block_frames`.

        Returns:
            (B, N, D, t, s, s).

        Raises:
            UsageError: the clips are not cut into blocks evenly.
        """
        self.config.check_clip(video.shape[1])
        blocks = video.unflatten(1, (-1, self.config.block_frames)).transpose(2, 3)
        return self.backbone(blocks.flatten(0, 1)).unflatten(0, blocks.shape[:2])

    def outputs(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is made of normalised clips `(B, N * L, 3, S, S)` (the contract of `core.nn.encoders`).

        Returns:
            `tokens` `(B, s * s, dim)`, the context of all blocks at every place, as classifiers see it; `map` `(B, N, D, s, s)`, the
            signed features z of every block, which pretraining predicts; `context` `(B, D, s, s)`, that of all blocks but the last
            `predict`, from which it predicts them; with two directions `context_backward`, from which the first are predicted.
        """
        maps = self.maps(video)
        seen = F.relu(maps).mean(3)
        finals = [gru(way)[:, -1] for gru, way in zip(self.aggregators(), (seen, seen.flip(1)), strict=False)]
        z = maps.mean(3)
        observed = max(1, z.shape[1] - self.config.predict)
        contexts = [gru(F.relu(way[:, :observed]))[:, -1] for gru, way in zip(self.aggregators(), (z, z.flip(1)), strict=False)]
        names = ("context", "context_backward")
        tokens = torch.cat(finals, 1).flatten(2).transpose(1, 2)
        return {"tokens": tokens, "map": z, **dict(zip(names, contexts, strict=False))}

    def layer_of(self, name: str) -> int:
        """Depth of a parameter for layer-wise learning rates: 0 the stem, 1 to 4 the stages, 5 the aggregators."""
        if not name.startswith("backbone."):
            return self.depth + 1
        stage = name.split(".")[1]
        return int(stage.removeprefix("layer")) if stage.startswith("layer") else 0
