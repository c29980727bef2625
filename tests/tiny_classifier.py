"""A small classifier and its config.json, as `vid finetune` writes them."""

from collections.abc import Sequence
from typing import Any

import torch
from pinned import same_everywhere
from torch import nn

from tasks.classify.config import HeadConfig
from tasks.classify.model import Classifier
from tasks.core.convert_transformers import video_preprocessing
from tasks.core.nn.config import VitConfig


def tiny_classifier(
    vit: VitConfig, labels: Sequence[str] = ("a", "b"), head: HeadConfig | None = None, **facts: Any
) -> tuple[Classifier, dict]:
    """(the module, the same one each time; what config.json says, with other `facts`)."""
    torch.manual_seed(0)
    head = head or HeadConfig()
    saved = {
        "library": "vid",
        "task": "classify",
        "method": head.mode,
        "architecture": vit.model_dump(),
        "head": head.model_dump(),
        "labels": list(labels),
        "preprocessing": video_preprocessing(vit, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], 2),
        "provenance": {},
    }
    return Classifier(vit, len(labels), head).eval(), saved | facts


def far_from_start(module: nn.Module) -> nn.Module:
    """The module with every weight changed, also those that begin as 0 or 1; for evaluation."""
    return same_everywhere(module, vectors=0.05).eval()
