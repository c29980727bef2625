"""Classification as the loop sees it."""

from typing import Any

import torch

from tasks.classify.config import FinetuneConfig
from tasks.classify.model import Classifier
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import Group, make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.core.nn.shared_norm import share_norms


class Classification(Method):
    """Cross-entropy with soft targets (label smoothing, MixUp, CutMix).

    Batch norms that are trained take their statistics over the clips of all processes. A batch has `video` `(B, T, 3, S, S)` float32 and
    `target` `(B, n_classes)` float32, whose rows sum to one.
    """

    shardable = True

    def __init__(self, config: FinetuneConfig, model: Any, n_classes: int):
        super().__init__()
        self.optim, self.head_lr_scale = config.optim, config.head.lr_scale
        self.classifier = Classifier(model, n_classes, config.head)
        share_norms(self.classifier)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        logits = full_precision(self.classifier(batch["video"]))
        loss = -(batch["target"] * logits.log_softmax(-1)).sum(-1).mean()
        hit = (logits.argmax(-1) == batch["target"].argmax(-1)).float().mean()
        return {"loss": loss, "train_top1": hit.detach() * 100}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        encoder, optim = self.classifier.encoder, self.optim

        def layer_of(name: str) -> int:
            return encoder.layer_of(name.removeprefix("encoder.")) if name.startswith("encoder.") else encoder.depth + 1

        def groups_of(named: list[tuple[str, torch.nn.Parameter]]) -> list[Group]:
            return make_groups(named, optim.weight_decay, layer_of, encoder.depth, optim.layer_decay)

        named = list(self.classifier.named_parameters())
        if self.head_lr_scale == 1:
            return {MAIN: OptimizerSpec.of(groups_of(named), optim)}
        own, head = (groups_of([pair for pair in named if pair[0].startswith("encoder.") == inside]) for inside in (True, False))
        for group in head:
            group["name"], group["lr_scale"] = f"head-{group['name']}", group["lr_scale"] * self.head_lr_scale
        return {MAIN: OptimizerSpec.of([*own, *head], optim)}
