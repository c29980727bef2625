"""What stands on an encoder: from tokens to logits."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.classify.config import HeadConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.shared_norm import batch_normed


class PooledHead(nn.Module):
    """Mean over tokens, norm, linear; with `head.hidden` a layer and a ReLU before the last one (an MLP).

    Layer norm is VideoMAE's head for fine-tuning, batch norm without affine the linear probe of He et al. (2022, appendix A.1), and unit
    length before batch norm that of CoCLR (Han et al., NeurIPS 2020).

    Args:
        dim: width of the tokens.
        n_classes: logits.
        head: settings.
    """

    def __init__(self, dim: int, n_classes: int, head: HeadConfig):
        super().__init__()
        norm, hidden = head.norm_used(), head.hidden_used()
        self.l2 = norm == "l2-batch"
        if norm == "layer":
            self.norm = nn.LayerNorm(dim, eps=head.norm_eps)
        elif norm == "none":
            self.norm = nn.Identity()
        else:
            # of an encoder that does not change the mean of all batches counts: features of random weights vary by 1e-6 or less, and 200
            # steps of a moving average leave more than that of the variance of 1 that it begins with
            momentum = 0.1 if head.mode == "finetune" else None
            self.norm = nn.BatchNorm1d(dim, affine=head.affine, eps=head.norm_eps, momentum=momentum)
        self.hidden = nn.Linear(dim, hidden) if hidden else None
        self.dropout = nn.Dropout(head.dropout)
        self.linear = nn.Linear(hidden or dim, n_classes)
        whole = head.mode == "finetune"
        nn.init.trunc_normal_(self.linear.weight, std=0.02 if whole else 0.01)
        nn.init.zeros_(self.linear.bias)
        if whole:
            with torch.no_grad():
                self.linear.weight.mul_(head.init_scale)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, N, dim)` to logits `(B, n_classes)`."""
        return self.of_pooled(tokens.mean(1))

    def of_pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(B, dim)` to logits `(B, n_classes)`."""
        x = self._normed(pooled)
        if self.hidden is not None:
            x = F.relu(self.hidden(x))
        return self.linear(self.dropout(x))

    def _normed(self, pooled: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.norm, _BatchNorm):
            return self.norm(pooled)
        pooled = full_precision(pooled)
        if self.l2:
            pooled = F.normalize(pooled, dim=-1)
        return batch_normed(self.norm, pooled)


class AttentiveProbe(nn.Module):
    """One learned query attends to the frozen tokens (V-JEPA's attentive probe), then norm and linear."""

    def __init__(self, dim: int, n_classes: int, head: HeadConfig):
        super().__init__()
        self.heads = next(n for n in range(max(1, dim // 64), 0, -1) if dim % n == 0)
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


HEADS = {"finetune": PooledHead, "linear": PooledHead, "mlp": PooledHead, "attentive": AttentiveProbe}
