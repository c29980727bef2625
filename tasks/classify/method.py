"""Classification as the loop sees it."""

from typing import Any

import torch
from torch import nn

from tasks.classify.config import FinetuneConfig
from tasks.classify.mca import box_facts
from tasks.classify.model import Classifier
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.core.nn.shared_norm import share_norms


class Classification(Method):
    """Cross-entropy with soft targets (label smoothing, MixUp, CutMix).

    Batch norms that are trained take their statistics over the clips of all processes. A batch has `video` `(B, T, 3, S, S)` float32 and
    `target` `(B, n_classes)` float32, whose rows sum to one; for a head that looks at them `boxes` `(B, T, 4)` float32 px, and perhaps
    `still` `(B,)` bool, clips in which nothing moves.
    """

    shardable = True

    def __init__(self, config: FinetuneConfig, model: Any, n_classes: int):
        super().__init__()
        self.optim, self.encoder_lr = config.optim, config.encoder_lr
        self.classifier = Classifier(model, n_classes, config.head)
        share_norms(self.classifier)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        logits = self.classifier(batch["video"], boxes=batch.get("boxes"))
        return {**self.score(logits, batch["target"]), **self.box_facts(batch)}

    def box_facts(self, batch: dict) -> dict[str, torch.Tensor]:
        """What is logged of the boxes of a batch, where it has some."""
        return box_facts(batch["boxes"], batch.get("still"), self.classifier.encoder.config) if "boxes" in batch else {}

    def score(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """`loss` and `train_top1` in percent, of two `(B, n_classes)`."""
        logits = full_precision(logits)
        loss = -(target * logits.log_softmax(-1)).sum(-1).mean()
        hit = (logits.argmax(-1) == target.argmax(-1)).float().mean()
        return {"loss": loss, "train_top1": hit.detach() * 100}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        encoder, optim = self.classifier.encoder, self.optim

        def layer_of(name: str) -> int:
            return encoder.layer_of(name.removeprefix("encoder.")) if name.startswith("encoder.") else encoder.depth + 1

        groups = [
            {**group, "lr_scale": group["lr_scale"] * factor}
            for named, factor in self._parts()
            for group in make_groups(named, optim.weight_decay, layer_of, encoder.depth, optim.layer_decay)
        ]
        return {MAIN: OptimizerSpec.of(groups, optim)}

    def _parts(self) -> list[tuple[list[tuple[str, nn.Parameter]], float]]:
        """(parameters by name, factor on their learning rate)"""
        named = [(name.removeprefix("classifier."), parameter) for name, parameter in self.named_parameters()]
        if self.encoder_lr == 1:
            return [(named, 1.0)]
        inner = [(name, parameter) for name, parameter in named if name.startswith("encoder.")]
        return [(inner, self.encoder_lr), ([item for item in named if not item[0].startswith("encoder.")], 1.0)]
