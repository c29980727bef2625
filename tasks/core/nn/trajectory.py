"""Trajectory attention (Patrick et al. 2021, "Keeping your eye on the ball"; TATS thesis, equations 5.1 and 5.2), exact and by Orthoformer.

Exact form, per head, for a query token (s, t) over F frames of P places:

    ytil[st, t'] = sum_s' softmax_s'(<q_st, k_s't'>) v_s't'            one pooled vector per frame
    y[st]        = sum_t' softmax_t'(<qtil_st, ktil_stt'>) vtil_stt'   qtil from ytil[st, t], ktil and vtil from ytil[st, t']

Two identities make it about as cheap as plain joint attention, without changing a number: the first line is F independent attentions over
P keys, which the fused kernel computes without storing scores; and the projections of ytil in the second line commute with its sums
(<qtil, Wk y> = <Wk^T qtil, y>; a constant <qtil, bk> drops out of the softmax; weights that sum to one pass bv on), so no F-fold projection
is ever formed. What the second line makes of the F-fold tensors is made again in the backward pass instead of being kept.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from tasks.core.nn.precision import full_precision
from tasks.core.nn.vit import check_heads


class TrajectoryAttention(nn.Module):
    """Trajectory attention over `(B, F*P, dim)` tokens, time-major.

    Args:
        dim, heads: width and number of heads.
        frames: F.
        landmarks: None for exact attention, else the number of Orthoformer landmarks.
        raw_values: use ytil itself instead of vtil in the last sum, as the first public code did (its authors advise against it).
    """

    def __init__(self, dim: int, heads: int, frames: int, landmarks: int | None = None, raw_values: bool = False):
        super().__init__()
        check_heads(dim, heads)
        self.heads, self.frames, self.landmarks, self.raw_values = heads, frames, landmarks, raw_values
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj_q = nn.Linear(dim, dim)
        self.proj_kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, first_landmark: torch.Tensor | int = 0) -> torch.Tensor:
        """`(B, N, dim)` to `(B, N, dim)`. `first_landmark`: place in [0, N) where the greedy choice of landmarks starts."""
        b, n, dim = x.shape
        h, d = self.heads, dim // self.heads
        q, k, v = (part.transpose(1, 2) for part in self.qkv(x).view(b, n, 3, h, d).unbind(2))
        if self.landmarks is None:
            pooled = pool_exact(q, k, v, self.frames)
        else:
            pooled = pool_orthoformer(q, k, v, self.frames, min(self.landmarks, n), first_landmark)
        kind = pooled[0].dtype
        w_q, b_q = self.proj_q.weight.to(kind) * d**-0.5, self.proj_q.bias.to(kind) * d**-0.5
        w_k, w_v = self.proj_kv.weight.to(kind).view(2, h, d, dim)
        bias = self.proj_kv.bias[dim:].to(kind)
        if self.raw_values:
            w_v, bias = torch.eye(dim, dtype=kind, device=x.device).view(h, d, dim), torch.zeros_like(bias)
        merged = AcrossFrames.apply(w_q, b_q, w_k, w_v, *pooled)
        return self.proj(merged.reshape(b, n, dim) + bias)


class AcrossFrames(torch.autograd.Function):
    """The second attention, equation 5.2: every token's query comes from what is pooled of its own frame, keys and values from all frames.

    `apply(w_q, b_q, w_k, w_v, *pooled)`: w_q `(dim, dim)` and b_q `(dim,)`, which hold the scale of the scores; w_k and w_v `(h, d, dim)`;
    pooled: F tensors `(B, N, dim)`, or one `(F, B, N, dim)`. Gives `(B, N, h, d)`. What is h-fold, the lifted queries and the mixtures,
    lives only while it is used.
    """

    @staticmethod
    def forward(ctx, w_q: torch.Tensor, b_q: torch.Tensor, w_k: torch.Tensor, w_v: torch.Tensor, *pooled: torch.Tensor) -> torch.Tensor:
        y = _by_token(pooled)
        query = F.linear(_own_frame(y).flatten(1, 2), w_q, b_q).unflatten(-1, w_k.shape[:2])
        scores = _lift(query, w_k) @ y.transpose(2, 3)
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        ctx.save_for_backward(query, weights, w_q, w_k, w_v, *pooled)
        return _lower(weights.to(y.dtype) @ y, w_v)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, exact_weights, w_q, w_k, w_v, *pooled = ctx.saved_tensors
        y = _by_token(pooled)
        weights, lifted, d_mixture = exact_weights.to(y.dtype), _lift(query, w_k), _lift(gradient, w_v)
        d_weights = d_mixture @ y.transpose(2, 3)
        d_scores = (exact_weights * (d_weights - (exact_weights * d_weights).sum(-1, keepdim=True))).to(y.dtype)
        d_y = (weights.transpose(2, 3) @ d_mixture).flatten(0, 1)
        d_y = d_y.baddbmm_(d_scores.transpose(2, 3).flatten(0, 1), lifted.flatten(0, 1)).view_as(y)
        d_lifted = d_scores @ y
        d_query, d_w_k, d_w_v = _lower(d_lifted, w_k).flatten(2), _outer(query, d_lifted), _outer(gradient, weights @ y)
        own = _own_frame(d_y)
        own += (d_query @ w_q).view_as(own)
        d_w_q, d_b_q = torch.einsum("bno,bni->oi", d_query, _own_frame(y).flatten(1, 2)), d_query.sum((0, 1))
        frames = d_y.permute(2, 0, 1, 3)
        return d_w_q, d_b_q, d_w_k, d_w_v, *(frames.unbind(0) if pooled[0].ndim == 3 else (frames,))


def _by_token(pooled: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(B, N, F, dim)` of what `AcrossFrames` takes."""
    frames = torch.stack(tuple(pooled)) if pooled[0].ndim == 3 else pooled[0]
    return frames.permute(1, 2, 0, 3)


def _own_frame(y: torch.Tensor) -> torch.Tensor:
    """View `(B, F, P, dim)` of `(B, N, F, dim)`: of every token, time-major, what belongs to its own frame."""
    return y.unflatten(1, (y.shape[2], -1)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def _lift(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`(B, N, h, d)` and `(h, d, dim)` to `(B, N, h, dim)`."""
    return torch.einsum("bnhd,hdc->bnhc", x, weight)


def _lower(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`(B, N, h, dim)` and `(h, d, dim)` to `(B, N, h, d)`."""
    return torch.einsum("bnhc,hdc->bnhd", x, weight)


def _outer(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`(B, N, h, d)` and `(B, N, h, dim)` to `(h, d, dim)`."""
    return torch.einsum("bnhd,bnhc->hdc", x, y)


def pool_exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, frames: int) -> tuple[torch.Tensor, ...]:
    """Per query and frame the attention-pooled values: `(B, h, N, d)` three times to F of `(B, N, h*d)`."""
    parts = zip(k.chunk(frames, 2), v.chunk(frames, 2), strict=True)
    return tuple(F.scaled_dot_product_attention(q, key, value).transpose(1, 2).flatten(2) for key, value in parts)


@torch.compiler.disable  # a graph of so many steps takes a minute to compile
@torch.no_grad()
def choose_landmarks(q: torch.Tensor, count: int, first: torch.Tensor | int) -> torch.Tensor:
    """Indices `(B, h, count)` of queries `(B, h, N, d)` chosen greedily so that each new one is most orthogonal to those before it.

    Most orthogonal: the smallest largest absolute cosine to any landmark chosen so far.
    """
    unit = F.normalize(full_precision(q), dim=-1).to(q.dtype).flatten(0, 1).contiguous()
    worst = unit.new_zeros(unit.shape[:-1])
    index = torch.as_tensor(first, device=q.device).expand(len(unit), 1)
    chosen = [index]
    for _ in range(count - 1):
        last = unit.gather(1, index[..., None].expand(-1, -1, unit.shape[-1]))
        torch.maximum(worst, (unit @ last.transpose(1, 2)).squeeze(-1).abs_(), out=worst)
        worst.scatter_(1, index, float("inf"))
        index = worst.argmin(-1, keepdim=True)
        chosen.append(index)
    return torch.cat(chosen, -1).unflatten(0, q.shape[:2])


def orthoformer_kernels(q: torch.Tensor, k: torch.Tensor, frames: int, count: int, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The two attention factors: `(B, h, N, L)` from queries to landmarks, `(B, h, L, F, P)` from landmarks to the places of each frame.

    Landmarks are queries, chosen once for all frames and without gradient to the choice.
    """
    b, h, n, d = q.shape
    q, k = q * d**-0.25, k * d**-0.25
    index = choose_landmarks(q, count, first)
    landmarks = q.gather(2, index[..., None].expand(-1, -1, -1, d)).detach()
    to_landmarks = (q @ landmarks.transpose(-1, -2)).softmax(-1)
    to_places = (landmarks @ k.transpose(-1, -2)).view(b, h, count, frames, n // frames).softmax(-1)
    return to_landmarks, to_places


def pool_orthoformer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, frames: int, count: int, first: int) -> tuple[torch.Tensor]:
    """`pool_exact` approximated through landmarks, linear in the number of tokens: one `(F, B, N, h*d)`."""
    b, h, n, d = q.shape
    to_landmarks, to_places = orthoformer_kernels(q, k, frames, count, first)
    summaries = torch.einsum("bhlfp,bhfpd->bhlfd", to_places, v.reshape(b, h, frames, n // frames, d))
    return (torch.einsum("bhnl,bhlfd->fbnhd", to_landmarks, summaries).reshape(frames, b, n, h * d),)
