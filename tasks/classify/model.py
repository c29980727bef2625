"""Classifiers on a video encoder."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tasks.classify.config import HeadConfig
from tasks.core.nn.config import VitConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.vit import VideoTransformer


class MeanPoolHead(nn.Module):
    """Mean over tokens, layer norm, linear (VideoMAE fine-tuning)."""

    def __init__(self, dim: int, n_classes: int, head: HeadConfig):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=head.norm_eps)
        self.dropout = nn.Dropout(head.dropout)
        self.linear = nn.Linear(dim, n_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            self.linear.weight.mul_(head.init_scale)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, N, dim)` to logits `(B, n_classes)`."""
        return self.linear(self.dropout(self.norm(tokens.mean(1))))


class LinearProbe(nn.Module):
    """Mean over tokens, batch norm without affine, linear (He et al. 2022, appendix A.1)."""

    def __init__(self, dim: int, n_classes: int, head: HeadConfig):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, affine=False, eps=1e-6)
        self.linear = nn.Linear(dim, n_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, N, dim)` to logits `(B, n_classes)`. A batch of one clip has no statistics; it is normed with the running ones."""
        pooled = full_precision(tokens.mean(1))
        if self.training and len(pooled) == 1:
            pooled = (pooled - self.norm.running_mean) * (self.norm.running_var + self.norm.eps).rsqrt()
            return self.linear(pooled)
        return self.linear(self.norm(pooled))


class AttentiveProbe(nn.Module):
    """One learned query attends to the frozen tokens (V-JEPA's attentive probe), then norm and linear."""

    def __init__(self, dim: int, n_classes: int, head: HeadConfig):
        super().__init__()
        self.heads = max(1, dim // 64)
        self.query_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.trunc_normal_(self.query_token, std=0.02)
        self.norm_in = nn.LayerNorm(dim, eps=1e-6)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.linear = nn.Linear(dim, n_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, N, dim)` to logits `(B, n_classes)`."""
        b, n, d = tokens.shape
        k, v = self.kv(self.norm_in(tokens)).view(b, n, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q = self.query_token.to(k.dtype).expand(b, 1, d).view(b, 1, self.heads, d // self.heads).transpose(1, 2)
        pooled = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, d)
        return self.linear(self.norm(self.proj(pooled)))


HEADS = {"finetune": MeanPoolHead, "linear": LinearProbe, "attentive": AttentiveProbe}


class Classifier(nn.Module):
    """An encoder and a head; in a probe the encoder is frozen, in evaluation mode and without gradients.

    Fine-tuning drops the encoder's final norm (the head norms after pooling); probes keep it, since frozen features are defined behind it.
    """

    def __init__(self, model: VitConfig, n_classes: int, head: HeadConfig):
        super().__init__()
        self.frozen = head.mode != "finetune"
        self.encoder = VideoTransformer(model, 0.0 if self.frozen else head.drop_path, final_norm=self.frozen)
        self.head = HEADS[head.mode](self.encoder.dim, n_classes, head)
        if self.frozen:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised `(B, T, 3, S, S)` to logits `(B, n_classes)`."""
        if self.frozen:
            with torch.no_grad():
                tokens = self.encoder(video)
        else:
            tokens = self.encoder(video)
        return self.head(tokens)


def drop_final_norm(weights: dict[str, Any]) -> dict[str, Any]:
    """Encoder weights without the pretraining norm, which fine-tuning replaces by the head's."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith("norm.")}
