"""MOFO's head: tokens where things move look at all the others ("multi-cross attention").

Source: MOFO (Ahmadian et al., NeurIPS workshop 2023), section 3.3; blocks as in its public code: pre-norm, one norm for both sides, an MLP.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tasks.classify.config import FinetuneConfig, HeadConfig
from tasks.classify.heads import PooledHead
from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.core.nn.encoders import check_tokens
from tasks.core.nn.vit import Mlp, Norm, check_heads, init_linear

_EDGE_PX = 1e-3  # of a cell, that a box may reach into without touching it: rounding


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to tokens; biases for queries and values only, as in the encoder."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, y: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """What `x` `(B, n, dim)` finds in those of `y` `(B, m, dim)` that are `seen`, `(B, m)` bool: `(B, n, dim)`."""
        b, n, d = x.shape
        q, k, v = (part.view(b, -1, self.heads, d // self.heads).transpose(1, 2) for part in (self.query(x), self.key(y), self.value(y)))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
        return self.proj(found.transpose(1, 2).reshape(b, n, d))


class CrossBlock(nn.Module):
    """Pre-norm block: `x + attention(norm x, norm y)`, then `x + mlp(norm x)`."""

    compile_region = True

    def __init__(self, dim: int, heads: int, norm_eps: float = 1e-6):
        super().__init__()
        self.norm1 = Norm(dim, eps=norm_eps)
        self.attn = CrossAttention(dim, heads)
        self.norm2 = Norm(dim, eps=norm_eps)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor, y: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """As `CrossAttention`."""
        x = x + self.attn(self.norm1(x), self.norm1(y), seen)
        return x + self.mlp(self.norm2(x))


class MotionHead(PooledHead):
    """Blocks in which inner tokens look at outer ones, then the mean over inner tokens and what `PooledHead` has behind it.

    All clips go through together: every token is a query, only outer tokens are looked at, and only inner ones are averaged. A clip whose
    tokens are all inner looks at itself; one without an inner token is averaged over all of its tokens, as they come in.

    Args:
        dim: width of the tokens.
        n_classes: logits.
        head: settings, with `mca`.
    """

    def __init__(self, dim: int, n_classes: int, head: HeadConfig):
        super().__init__(dim, n_classes, head)
        self.blocks = nn.ModuleList(CrossBlock(dim, head.mca.heads) for _ in range(head.mca.depth))
        self.blocks.apply(init_linear)

    def forward(self, tokens: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        """`(B, n, dim)` and which of them are inner, `(B, n)` bool, to logits `(B, n_classes)`."""
        return self.of_pooled(self.fuse(tokens, inner))

    def fuse(self, tokens: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        """One feature for each clip, `(B, dim)`; arguments as `forward`."""
        inside, outside = (part.any(1, keepdim=True) for part in (inner, ~inner))
        seen, x = ~inner | ~outside, tokens
        for block in self.blocks:
            x = block(x, torch.where(outside[..., None], tokens, x), seen)
        x = torch.where(inside[..., None], x, tokens)
        counted = inner | ~inside
        return (x * counted[..., None]).sum(1) / counted.sum(1, keepdim=True)


def inner_tokens(boxes: torch.Tensor, model: VitConfig) -> torch.Tensor:
    """Which tokens the box of any of their frames touches.

    Args:
        boxes: `(B, T, 4)` px of the clips, zeros for a frame without one.
        model: of the encoder.

    Returns:
        `(B, N)` bool, time-major, then row, then column.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    frames, rows, columns = model.grid()
    touched = _touched(y1, y2, rows, model.patch)[..., :, None] & _touched(x1, x2, columns, model.patch)[..., None, :]
    return touched.unflatten(1, (frames, model.tubelet)).any(2).flatten(1)


def _touched(low: torch.Tensor, high: torch.Tensor, count: int, patch: int) -> torch.Tensor:
    """Which of `count` neighbouring cells of `patch` px the lengths from `low` to `high` `(...)` reach into: `(..., count)` bool."""
    begin = torch.arange(count, device=low.device) * patch
    return (high[..., None] > begin + _EDGE_PX) & (low[..., None] < begin + patch - _EDGE_PX) & (high > low)[..., None]


def box_facts(boxes: torch.Tensor, still: torch.Tensor | None, model: VitConfig) -> dict[str, torch.Tensor]:
    """What is logged of the boxes of a batch: the mean share of inner tokens, and the shares of clips without one, without an outer
    token and, of boxes that were computed, of clips in which nothing moves.

    Args:
        boxes: `(B, T, 4)` px.
        still: `(B,)` bool.
        model: of the encoder.
    """
    inner = inner_tokens(boxes, model)
    found = {"inner_share": inner, "without_inner": ~inner.any(1), "without_outer": inner.all(1)}
    found |= {} if still is None else {"nothing_moves": still}
    return {name: value.float().mean() for name, value in found.items()}


def check(config: FinetuneConfig, model: VitConfig) -> None:
    """UsageError where the encoder of a run makes no tokens that have a place in the frame, or its width is not for so many heads."""
    if config.head.mca is None:
        return
    check_tokens(model, "head.mca")
    width, heads = model.widths()[0], config.head.mca.heads
    if width % heads:
        near = min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(n - heads))
        raise UsageError(f"tokens of width {width} cannot be split into {heads} heads", f"--set head.mca.heads={near}")
