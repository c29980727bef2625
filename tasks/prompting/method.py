"""Prompted recognition, localisation and retrieval as the loop sees them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tasks.core.engine.config import OptimConfig
from tasks.core.engine.exchange import gather_rows, gather_with_gradient, row_counts
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.core.reporter import Reporter
from tasks.core.towers.frozen import FrozenTower
from tasks.core.towers.text_tower import TextTower
from tasks.core.world import world
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.model import PromptedModel
from tasks.prompting.names import NameTokens, tell_cut


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
        logits = self.model.logits(self.video_features(batch), self.text_features(chosen))
        return matching(logits, label)

    def video_features(self, batch: dict) -> torch.Tensor:
        """Vectors of what has a label in a batch, `(B, dim)`."""
        return self.model.video_features(batch["clip"].to(dtype_of(self.model)), batch["gap"])

    def _candidates(self, label: torch.Tensor, rng: BatchRandom) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of the classes to compare with, the same in every process, and the labels' places among them."""
        seen = gather_rows(label, row_counts(len(label), label.device)).unique()
        others = torch.randperm(len(self.ids), generator=torch.Generator().manual_seed(rng.shared_index(2**62)))
        others = others.to(label.device)
        others = others[~torch.isin(others, seen)]
        chosen = torch.cat([seen, others[: max(self.candidates - len(seen), 0)]])
        return chosen, torch.searchsorted(seen, label)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return optimizer_of(self.model, self.optim)


class EventPrompting(Prompting):
    """As `Prompting`, of timed events: an event is the mean of the features inside it, after frames of a snippet have seen each other.

    A batch has what `events.snippets` makes: `clip` `(B, T, dim)` and, of all its E events, `owner` `(E,)`, `inside` `(E, 2)` and `label`
    `(E,)`.
    """

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        found, events = super().forward(batch, rng, progress, phase), len(batch["label"])
        everywhere = sum(row_counts(events, batch["label"].device))
        share = events * world().size / max(everywhere, 1)  # processes have different numbers of events
        return {name: value * share for name, value in found.items()}

    def video_features(self, batch: dict) -> torch.Tensor:
        dense = self.model.dense_features(batch["clip"].to(dtype_of(self.model)))
        sums = F.pad(full_precision(dense).cumsum(1), (0, 0, 1, 0))
        owner, (low, high) = batch["owner"], batch["inside"].T
        return (sums[owner, high] - sums[owner, low]) / (high - low)[:, None]


class SentencePrompting(Method):
    """Cross-entropy over the cosines of a video and the sentences of a batch (equation 5.2 of the thesis); those of all processes.

    A batch has what `sentences.pairs` makes: `clip` `(B, T, dim)` float, `gap` `(B,)` int64, and of a sentence for each clip `ids` `(B, N)`
    int64, its token numbers, padded with anything, and `lengths` `(B,)` int64.

    Args:
        config: settings.
        tower: frozen text tower; no part of what is trained or kept.
        dim: channels of the features of frames.
    """

    def __init__(self, config: FinetuneConfig, tower: TextTower, dim: int):
        super().__init__()
        self.optim, self.symmetric = config.optim, config.symmetric
        self.text = FrozenTower(tower)
        self.model = PromptedModel(config.model, tower.width, tower.context, dim)
        self.register_buffer("marks", torch.tensor([tower.tokenizer.start, tower.tokenizer.end]), persistent=False)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        video = self.model.video_features(batch["clip"].to(dtype_of(self.model)), batch["gap"])
        text = self.model.text_features(self.text.tower.network, batch["ids"], batch["lengths"], self.marks)
        counts = row_counts(len(video), video.device)
        own = torch.arange(len(video), device=video.device) + sum(counts[: world().rank])
        found = matching(self.model.logits(video, gather_with_gradient(text, counts)), own)
        if self.symmetric:
            other = matching(self.model.logits(text, gather_with_gradient(video, counts)), own)
            found["loss"] = (found["loss"] + other["loss"]) / 2
        return found

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return optimizer_of(self.model, self.optim)


def matching(logits: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
    """`loss`, the mean cross-entropy of `(B, C)` and `(B,)`, 0 where B is 0; `train_top1`, percent."""
    n = max(len(label), 1)
    hits = (logits.argmax(-1) == label).sum()
    return {"loss": F.cross_entropy(logits, label, reduction="sum") / n, "train_top1": hits.detach() * 100 / n}


def optimizer_of(model: PromptedModel, optim: OptimConfig) -> dict[str, OptimizerSpec]:
    """One group with all that is trained: all of it decays (public code)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return {MAIN: OptimizerSpec.of([{"params": parameters, "weight_decay": optim.weight_decay, "lr_scale": 1.0, "name": "all"}], optim)}


def dtype_of(model: PromptedModel) -> torch.dtype:
    """The type that weights have."""
    return next(model.parameters()).dtype


def zero_shot_features(tower: TextTower, names: Sequence[str], template: str, reporter: Reporter | None = None) -> torch.Tensor:
    """Vectors `(C, dim)` of hand-written prompts; `reporter` is told of those that are cut."""
    texts = [template.format(name) for name in names]
    if reporter is not None:
        tell_cut(texts, tower, reporter)
    return tower(texts)
