"""Predicting the maps of the next blocks, one after the other, and what a classifier makes of where predictions fail.

DPC (Han et al., ICCV workshops 2019) and MemDPC (Han et al., ECCV 2020).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.errors import UsageError
from tasks.core.nn.config import DiscrepancyConfig, R2D3DConfig
from tasks.core.nn.r2d3d import BlockEncoder, ConvGRU


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


NextMap = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
"""From a context (B, D, s, s) to what `next_map` gives."""


def make_predictor(dim: int, slots: int | None) -> nn.Sequential:
    """phi, two 1x1 convolutions: from contexts to maps or, with a memory of `slots` vectors, to the logits of its addresses."""
    return nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(inplace=True), nn.Conv2d(dim, slots or dim, 1))


def next_map(predictor: nn.Module, memory: torch.Tensor | None, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What follows a context (B, D, s, s).

    Args:
        predictor: phi.
        memory: (k, D), or None.
        context: what is known.

    Returns:
        the map (B, D, s, s); the addresses (B, k, s, s) of the slots that it is made of, None without a memory.
    """
    found = predictor(context)
    if memory is None:
        return found, None
    address = found.softmax(1)
    return torch.einsum("bkhw,kd->bdhw", address, memory), address


def predict_blocks(follow: NextMap, aggregator: ConvGRU, z: torch.Tensor, steps: int) -> Direction:
    """The last `steps` of the maps z (B, N, D, s, s) from those before; each prediction moves the context on to the next."""
    observed = z.shape[1] - steps
    context = state = aggregator(F.relu(z[:, :observed]))[:, -1]
    predicted, addresses = [], []
    for step in range(steps):
        if step:
            state = aggregator.step(F.relu(predicted[-1]), state)
        found, address = follow(state)
        predicted.append(found)
        addresses.append(address)
    remembered = None if addresses[0] is None else torch.stack(addresses, 1)
    return Direction(context, torch.stack(predicted, 1), z[:, observed:], remembered)


class Prediction(nn.Module):
    """phi and the memory.

    Args:
        dim: D.
        slots: k; None: no memory.
    """

    def __init__(self, dim: int, slots: int | None):
        super().__init__()
        self.predictor = make_predictor(dim, slots)
        self.memory = None if slots is None else nn.Parameter(torch.randn(slots, dim))

    def forward(self, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `next_map`."""
        return next_map(self.predictor, self.memory, context)


class DiscrepancyEncoder(BlockEncoder):
    """A pretrained network of DPC or MemDPC as a detector of what it did not expect (thesis section 3.4, unintentional actions).

    The last q blocks of a clip are predicted from those before and, with two directions, the first q from those after. The thesis lets a
    learned function xi compare predictions with what comes and does not say which; here xi is the classifier's head on z, its prediction
    and the absolute difference of both, of every predicted block, with a linear layer, an MLP or attention over the places.

    Attributes:
        dim: of a token: 3 D for every predicted block of every direction.
    """

    def __init__(self, config: DiscrepancyConfig):
        super().__init__(config)
        self.prediction = Prediction(self.backbone.dim, config.slots)
        self.dim = 3 * self.backbone.dim * config.predict * len(self.aggregators())

    def outputs(self, video: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is made of normalised clips `(B, N * L, 3, S, S)` (the contract of `core.nn.encoders`).

        Returns:
            `tokens` `(B, s * s, dim)`, at every place z, prediction and difference, block by block; `map` `(B, N, D, s, s)`, z of every
            block.

        Raises:
            UsageError: a clip has no blocks to predict from.
        """
        self.config.check_clip(video.shape[1])
        z = self.maps(video).mean(3)
        parts = []
        for aggregator, way in zip(self.aggregators(), (z, z.flip(1)), strict=False):
            found = predict_blocks(self.prediction, aggregator, way, self.config.predict)
            parts += [found.target, found.predicted, (found.target - found.predicted).abs()]
        return {"tokens": torch.cat([part.flatten(1, 2) for part in parts], 1).flatten(2).transpose(1, 2), "map": z}


def discrepancy_settings(saved: Mapping[str, Any], settings: Any, source: str) -> DiscrepancyConfig:
    """The settings of a `DiscrepancyEncoder` from a pretrained model.

    Args:
        saved: its config.json.
        settings: of its encoder.
        source: named in errors.

    Raises:
        UsageError: the model predicts nothing.
    """
    if isinstance(settings, DiscrepancyConfig):
        return settings
    if not isinstance(settings, R2D3DConfig) or not isinstance(saved.get("prediction"), Mapping):
        raise UsageError(
            f"{source} is a model of task '{saved['task']}' without a predictor: there is no discrepancy to look at",
            "start from vid pretrain with a preset of predictive/, or from vid convert --from memdpc of a pretraining checkpoint",
        )
    return DiscrepancyConfig(**settings.model_dump(exclude={"family"}), slots=saved["prediction"].get("slots"))


def discrepancy_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a `DiscrepancyEncoder` from those of a pretrained model of DPC or MemDPC."""
    inner = {name.removeprefix("encoder."): tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    own = {f"prediction.{name}": tensor for name, tensor in weights.items() if name.startswith(("predictor.", "memory"))}
    return inner | own
