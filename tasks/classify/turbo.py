"""Fine-tuning with token dropout and partial reconstruction ("Turbo": Han et al., BMVC 2022; `core.nn.token_dropout`)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tasks.classify.config import FinetuneConfig
from tasks.classify.method import Classification
from tasks.classify.model import Classifier
from tasks.core.engine.method import MAIN, Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import TokenDropoutConfig, VitConfig
from tasks.core.nn.encoders import check_tokens
from tasks.core.nn.token_dropout import TokenCounts, TokenDropout, keep_tokens, plain_macs, share_of, token_counts
from tasks.core.profile import span


class TurboClassification(Classification):
    """Cross-entropy of what the encoder makes of a share of the tokens, and the error of the reconstruction of others.

    The decoder learns at the head's rate. Validation and the published model see all tokens and know of no decoder.
    """

    def __init__(self, config: FinetuneConfig, model: VitConfig, n_classes: int):
        super().__init__(config, model, n_classes)
        normed = not isinstance(self.classifier.encoder.norm, nn.Identity)
        self.n_classes = n_classes
        self.dropout = TokenDropout(model, config.turbo, config.augment.mean, config.augment.std, normed)

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        video = batch["video"]
        kept = self.dropout.draw(len(video), rng)
        with span("encode"):
            outputs = self.classifier.encoder.outputs(video, kept.visible)
        scores = self.score(self.classifier.classify(outputs, kept.visible, batch.get("boxes")), batch["target"])
        return {**scores, **self.box_facts(batch), **self.dropout(scores["loss"], self.n_classes, video, outputs, kept)}


def build_method(config: FinetuneConfig, model: Any, n_classes: int) -> Classification:
    """What `config.turbo` asks for; without a share that is hidden it is ordinary fine-tuning."""
    kind = TurboClassification if config.turbo is not None and config.turbo.mask else Classification
    return kind(config, model, n_classes)


def check(config: FinetuneConfig, model: Any) -> None:
    """UsageError where the encoder of a run cannot do without some of its tokens, or shares leave none."""
    if config.turbo is not None and config.turbo.mask:
        counts(config, model)


def counts(config: FinetuneConfig, model: Any) -> TokenCounts:
    """Of a clip; errors as `check`."""
    check_tokens(model, "turbo")
    return token_counts(model.grid(), config.turbo)


def drop_pattern(saved: Mapping[str, Any]) -> str:
    """The pattern in which a classifier was trained, from its config.json; random where it saw all tokens."""
    return TokenDropoutConfig(**saved["turbo"]).pattern if saved.get("turbo") else "random"


def token_chooser(classifier: Classifier, pattern: str, keep: float, seed: int) -> Callable[[list[int]], torch.Tensor]:
    """For testing: from the seeds of b views to the tokens `(b, n)` that are seen of them.

    Args:
        classifier: whose encoder has tokens; UsageError else, or where none is left.
        pattern: as in `TokenDropoutConfig`.
        keep: share of the tokens.
        seed: of the draw.
    """
    model = classifier.encoder.config
    check_tokens(model, f"keep={keep:g}")
    share_of(model.grid(), keep, pattern, f"keep {keep:g} leaves")
    return lambda seeds: keep_tokens(model.grid(), keep, pattern, seeds, seed)


def planned(config: FinetuneConfig, model: Any) -> dict[str, Any]:
    """What `--dry-run` says of it: tokens, and multiply-adds of a clip, as the paper counts them, beside those without dropout."""
    if config.turbo is None or not config.turbo.mask:
        return {}
    found = counts(config, model)
    gmacs = [
        float(f"{plain_macs(model, config.turbo.decoder, each, model.class_token) / 1e9:.4g}")
        for each in (found, TokenCounts(model.n_tokens(), 0, 0))
    ]
    tokens = {"visible_tokens": found.visible, "reconstructed_tokens": found.targets, "ignored_tokens": found.ignored}
    return {"tokens": found.total, **tokens, "gmacs_per_clip": gmacs[0], "gmacs_all_tokens": gmacs[1]}
