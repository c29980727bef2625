"""Boundary classification as the loop sees it."""

import torch
from torch.nn import functional as F

from tasks.boundaries.classifier import BoundaryClassifier
from tasks.boundaries.config import FinetuneConfig
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import ResNetConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.shared_norm import share_norms


class BoundaryTraining(Method):
    """Binary cross-entropy on windows around candidates (thesis section 3.4.1).

    Batch norm takes its statistics over the windows of all processes. A batch has `video` (B, 2 W, 3, S, S) float32, `target` (B,)
    float32 in [0, 1], and `boundary` (B,) bool, the hard label.
    """

    def __init__(self, config: FinetuneConfig, model: ResNetConfig):
        super().__init__()
        self.optim = config.optim
        self.classifier = BoundaryClassifier(model, config.window.two_groups)
        share_norms(self.classifier)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        logits = full_precision(self.classifier(batch["video"]))
        loss = F.binary_cross_entropy_with_logits(logits, batch["target"])
        right = ((logits >= 0) == batch["boundary"]).float().mean()
        return {"loss": loss, "train_accuracy": right.detach() * 100}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        encoder, optim = self.classifier.encoder, self.optim

        def layer_of(name: str) -> int:
            return encoder.layer_of(name.removeprefix("encoder.")) if name.startswith("encoder.") else encoder.depth + 1

        groups = make_groups(self.classifier.named_parameters(), optim.weight_decay, layer_of, encoder.depth, optim.layer_decay)
        return {MAIN: OptimizerSpec.of(groups, optim)}
