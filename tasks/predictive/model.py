"""Predicting the maps of the next blocks, one after the other."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.r2d3d import BlockEncoder, ConvGRU, orthogonal
from tasks.predictive.config import DPCConfig, MemDPCConfig


@dataclass
class Direction:
    """What is predicted along one direction of time.

    Attributes:
        context: (B, D, s, s) of the observed blocks.
        predicted: (B, q, D, s, s), nearest block first.
        target: (B, q, D, s, s), the features z of those blocks; gradients flow through them.
        addresses: (B, q, k, s, s), probabilities of the memory's slots; None without a memory.
    """

    context: torch.Tensor
    predicted: torch.Tensor
    target: torch.Tensor
    addresses: torch.Tensor | None


class PredictiveCoder(nn.Module):
    """An encoder of blocks, a predictor phi of two 1x1 convolutions and, in MemDPC, a memory.

    Contexts take rectified maps; the score sees maps and predictions as they are (public code). In MemDPC phi gives addresses, its weights
    and those of the aggregators begin a tenth as large, and the memory is standard normal (public code).

    Args:
        model: of the encoder.
        method: of the prediction.
    """

    def __init__(self, model: R2D3DConfig, method: DPCConfig | MemDPCConfig):
        super().__init__()
        self.encoder = BlockEncoder(model)
        dim = self.encoder.backbone.dim
        slots = method.slots if isinstance(method, MemDPCConfig) else None
        self.predictor = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(inplace=True), nn.Conv2d(dim, slots or dim, 1))
        self.memory = None if slots is None else nn.Parameter(torch.randn(slots, dim))
        gain = 1.0 if slots is None else 0.1
        for module in (*self.encoder.aggregators(), self.predictor):
            orthogonal(module, gain)

    def forward(self, video: torch.Tensor) -> list[Direction]:
        """Clips (B, N * L, 3, S, S), normalised, to one direction or, with two aggregators, forwards and backwards.

        Backwards the blocks run in reverse: the first q blocks are predicted from those after them.
        """
        z = self.encoder.maps(video).mean(3)
        ways = (z, z.flip(1))
        return [self.predict(gru, way) for gru, way in zip(self.encoder.aggregators(), ways, strict=False)]

    def predict(self, aggregator: ConvGRU, z: torch.Tensor) -> Direction:
        """The last q of the maps (B, N, D, s, s) from those before; each prediction moves the context on to the next."""
        observed = z.shape[1] - self.encoder.config.predict
        context = state = aggregator(F.relu(z[:, :observed]))[:, -1]
        predicted, addresses = [], []
        for step in range(self.encoder.config.predict):
            if step:
                state = aggregator.step(F.relu(predicted[-1]), state)
            found, address = self.next_map(state)
            predicted.append(found)
            addresses.append(address)
        remembered = None if self.memory is None else torch.stack(addresses, 1)
        return Direction(context, torch.stack(predicted, 1), z[:, observed:], remembered)

    def next_map(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What follows a context (B, D, s, s): the map (B, D, s, s) and the addresses (B, k, s, s) of the slots it is made of."""
        found = self.predictor(context)
        if self.memory is None:
            return found, None
        address = found.softmax(1)
        return torch.einsum("bkhw,kd->bdhw", address, self.memory), address
