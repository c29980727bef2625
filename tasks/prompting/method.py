"""Prompted recognition as the loop sees it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tasks.core.engine.exchange import gather_rows, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.towers.frozen import FrozenTower
from tasks.core.towers.text import TextTower
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.model import PromptedModel
from tasks.prompting.names import NameTokens


class Prompting(Method):
    """Cross-entropy over the cosines of a clip and the names of classes (equation 5.2 of the thesis).

    A batch has `clip` `(B, T, dim)` float, features of frames, `gap` `(B,)` int64, the number of each clip's distance of frames, and
    `label` `(B,)` int64. With more classes than `config.candidates` a step compares with the classes of all processes' batches and random
    others.

    Args:
        config: settings.
        tower: frozen text tower; no part of what is trained or kept.
        tokens: the names of the classes.
        dim: channels of the features of frames.
    """

    def __init__(self, config: FinetuneConfig, tower: TextTower, tokens: NameTokens, dim: int):
        super().__init__()
        self.optim, self.candidates = config.optim, config.candidates
        self.text = FrozenTower(tower)
        self.model = PromptedModel(config.model, tower.width, tower.context, dim)
        for name in ("ids", "lengths", "marks"):
            self.register_buffer(name, getattr(tokens, name), persistent=False)

    def text_features(self, chosen: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of the classes, `(C, dim)`, or of those with the numbers `chosen`."""
        ids, lengths = (self.ids, self.lengths) if chosen is None else (self.ids[chosen], self.lengths[chosen])
        return self.model.text_features(self.text.tower.network, ids, lengths, self.marks)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        label, chosen = batch["label"], None
        if len(self.ids) > self.candidates:
            chosen, label = self._candidates(label, rng)
        video = self.model.video_features(batch["clip"].to(self.dtype), batch["gap"])
        logits = self.model.logits(video, self.text_features(chosen))
        hit = (logits.argmax(-1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label), "train_top1": hit.detach() * 100}

    @property
    def dtype(self) -> torch.dtype:
        """The type that weights have."""
        return next(self.model.parameters()).dtype

    def _candidates(self, label: torch.Tensor, rng: BatchRandom) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of the classes to compare with, the same in every process, and the labels' places among them."""
        seen = gather_rows(label, row_counts(len(label), label.device)).unique()
        others = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(rng.shared_index(2**62)))
        others = others.to(label.device)
        others = others[~torch.isin(others, seen)]
        chosen = torch.cat([seen, others[: max(self.candidates - len(seen), 0)]])
        return chosen, torch.searchsorted(seen, label)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        group = {"params": parameters, "weight_decay": self.optim.weight_decay, "lr_scale": 1.0, "name": "all"}  # all decay (public code)
        return {MAIN: OptimizerSpec.of([group], self.optim)}


def zero_shot_features(tower: TextTower, names: Sequence[str], template: str) -> torch.Tensor:
    """Vectors `(C, dim)` of hand-written prompts."""
    return tower([template.format(name) for name in names])
