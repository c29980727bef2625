"""The network that pretraining trains: an encoder of blocks, a predictor and, in MemDPC, a memory."""

import torch
from torch import nn

from tasks.core.nn.config import R2D3DConfig
from tasks.core.nn.prediction import Direction, make_predictor, next_map, predict_blocks
from tasks.core.nn.r2d3d import BlockEncoder, ConvGRU, orthogonal
from tasks.predictive.config import DPCConfig, MemDPCConfig


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
        self.predictor = make_predictor(dim, slots)
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
        return predict_blocks(self.next_map, aggregator, z, self.encoder.config.predict)

    def next_map(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What follows a context (B, D, s, s): the map (B, D, s, s) and the addresses (B, k, s, s) of the slots it is made of."""
        return next_map(self.predictor, self.memory, context)
