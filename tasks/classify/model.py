"""Classifiers on a video encoder."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tasks.classify.config import HeadConfig
from tasks.classify.heads import HEADS
from tasks.classify.mca import MotionHead, inner_tokens
from tasks.core.errors import UsageError
from tasks.core.nn.encoders import build_encoder, tokens_of


class Classifier(nn.Module):
    """An encoder and a head; in a probe the encoder is frozen, in evaluation mode and without gradients.

    Fine-tuning drops a transformer's final norm (the head norms after pooling); probes keep it, as frozen features are defined behind it.

    Args:
        model: settings of an encoder (`core.nn.encoders`).
        n_classes: logits.
        head: settings of what stands on it.
    """

    def __init__(self, model: Any, n_classes: int, head: HeadConfig):
        super().__init__()
        self.frozen, self.pool = head.mode != "finetune", head.pool
        self.encoder = build_encoder(model, 0.0 if self.frozen else head.drop_path, final_norm=self.frozen)
        self.head = (HEADS[head.mode] if head.mca is None else MotionHead)(self.encoder.dim, n_classes, head)
        if self.frozen:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, video: torch.Tensor, index: torch.Tensor | None = None, boxes: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `(B, n_classes)`.

        Args:
            video: normalised `(B, T, 3, S, S)`.
            index: `(B, n)`: by these tokens alone, of an encoder that has some.
            boxes: `(B, T, 4)` px of what moves, zeros for a frame without a box; only for a head that looks at them, which must have them.

        Raises:
            UsageError: boxes are missing.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            outputs = self.encoder.outputs(video) if index is None else self.encoder.outputs(video, index)
        return self.classify(outputs, index, boxes)

    @property
    def needs_boxes(self) -> bool:
        """Whether the head looks at boxes."""
        return isinstance(self.head, MotionHead)

    def classify(
        self, outputs: Mapping[str, torch.Tensor], index: torch.Tensor | None = None, boxes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the encoder makes of clips (`core.nn.encoders`) to logits; arguments as `forward`."""
        if self.needs_boxes:
            if boxes is None:
                raise UsageError(
                    "this classifier looks at boxes around what moves, and got none",
                    "give boxes (B, T, 4), px: core.clips.prepare finds them",
                )
            inner = inner_tokens(boxes, self.encoder.config)
            return self.head(tokens_of(outputs), inner if index is None else inner.gather(1, index))
        return self.head(outputs["pooled"][:, None] if self.pool == "cls" else tokens_of(outputs))
