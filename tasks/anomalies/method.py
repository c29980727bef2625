"""The parts of the detector as the training loop sees them."""

import torch
import torch.nn.functional as F

from tasks.anomalies.config import PretrainConfig, SemanticConfig
from tasks.anomalies.discriminator import Discriminator
from tasks.anomalies.model import Autoencoder
from tasks.anomalies.objective import reconstruction_loss
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.core.nn.shared_norm import share_norms


class Reconstruction(Method):
    """One autoencoder. A batch has `input` and `target`, `(B, 3, T, S, S)` in [-1, 1]."""

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.optim = config.optim
        self.autoencoder = Autoencoder(config.model)
        if config.model.norm == "sync":
            share_norms(self.autoencoder)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        return {"loss": reconstruction_loss(self.autoencoder(batch["input"]), batch["target"])}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        optim = self.optim
        return {MAIN: OptimizerSpec.of(_all(self, optim.weight_decay), optim)}


class Discrimination(Method):
    """The discriminator. A batch has `features`, `(B, features)` float32, and `label`, `(B,)` float32, 1 for pseudo-anomalies."""

    def __init__(self, config: SemanticConfig, features: int):
        super().__init__()
        self.settings = config
        self.discriminator = Discriminator(features, config.hidden, config.normalize)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        logits = full_precision(self.discriminator(batch["features"]))
        accuracy = ((logits > 0) == (batch["label"] > 0.5)).float().mean()
        return {"loss": F.binary_cross_entropy_with_logits(logits, batch["label"]), "accuracy": accuracy}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {MAIN: OptimizerSpec(_all(self, self.settings.weight_decay), self.settings.lr, (0.9, 0.999))}


def _all(module: torch.nn.Module, weight_decay: float) -> list[dict]:
    """One group with every parameter: the thesis makes no exception for biases and norms."""
    return [{"params": list(module.parameters()), "weight_decay": weight_decay, "lr_scale": 1.0, "name": "all"}]
