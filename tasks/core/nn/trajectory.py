"""Trajectory attention (Patrick et al. 2021, "Keeping your eye on the ball"; TATS thesis, equations 5.1 and 5.2), exact and by Orthoformer.

Exact form, per head, for a query token (s, t) over F frames of P places:

    ytil[st, t'] = sum_s' softmax_s'(<q_st, k_s't'>) v_s't'            one pooled vector per frame
    y[st]        = sum_t' softmax_t'(<qtil_st, ktil_stt'>) vtil_stt'   qtil from ytil[st, t], ktil and vtil from ytil[st, t']

Two identities make it about as cheap as plain joint attention, without changing a number:
the first line is F independent attentions over P keys, which the fused kernel computes without storing scores; and the projections of
ytil in the
second line commute with its sums (<qtil, Wk y> = <Wk^T qtil, y>; a constant <qtil, bk> drops out of the softmax; weights that sum to
one pass bv on),
so no F-fold projection is ever formed.
"""

import torch
import torch.nn.functional as F
from torch import nn


class TrajectoryAttention(nn.Module):
    """Trajectory attention over `(B, F*P, dim)` tokens, time-major.

    Args:
        dim, heads: width and number of heads. frames: F.
        landmarks: None for exact attention, else the number of Orthoformer landmarks.
        raw_values: use ytil itself instead of vtil in the last sum, as the first public code did (its authors advise against it).
    """

    def __init__(self, dim: int, heads: int, frames: int, landmarks: int | None = None, raw_values: bool = False):
        super().__init__()
        self.heads, self.frames, self.landmarks, self.raw_values = heads, frames, landmarks, raw_values
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj_q = nn.Linear(dim, dim)
        self.proj_kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, first_landmark: int = 0) -> torch.Tensor:
        """`(B, N, dim)` to `(B, N, dim)`. `first_landmark`: place in [0, N) where the greedy choice of landmarks starts."""
        b, n, dim = x.shape
        h, f, d = self.heads, self.frames, dim // self.heads
        p = n // f
        q, k, v = self.qkv(x).view(b, n, 3, h, d).permute(2, 0, 3, 1, 4)
        if self.landmarks is None:
            pooled = _pool_exact(q, k, v, f)
        else:
            pooled = _pool_orthoformer(q, k, v, f, min(self.landmarks, n), first_landmark)  # (b, h, n, f, d)
        trajectories = pooled.permute(0, 2, 3, 1, 4).reshape(b, n, f, dim)
        own = trajectories.view(b, f, p, f, dim).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2).reshape(b, n, dim)
        query = (self.proj_q(own) * d**-0.5).view(b, n, h, d)
        w_k, w_v = self.proj_kv.weight.to(query.dtype).view(2, h, d, dim)
        lifted = torch.einsum("bnhd,hdc->bnhc", query, w_k)
        weights = (lifted @ trajectories.transpose(2, 3)).softmax(-1)  # (b, n, h, f)
        if self.raw_values:
            merged = torch.einsum("bnhf,bnfhd->bnhd", weights, trajectories.view(b, n, f, h, d))
        else:
            merged = torch.einsum("bnhc,hdc->bnhd", weights @ trajectories, w_v) + self.proj_kv.bias[dim:].to(query.dtype).view(h, d)
        return self.proj(merged.reshape(b, n, dim))


def _pool_exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, frames: int) -> torch.Tensor:
    """Per query and frame the attention-pooled values: `(B, h, N, d)` three times to `(B, h, N, F, d)`."""
    b, h, n, d = q.shape
    k, v = (z.view(b, h, frames, n // frames, d) for z in (k, v))
    pooled = F.scaled_dot_product_attention(q[:, :, None].expand(b, h, frames, n, d).flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2))
    return pooled.view(b, h, frames, n, d).transpose(2, 3)


@torch.no_grad()
def choose_landmarks(q: torch.Tensor, count: int, first: int) -> torch.Tensor:
    """Indices `(B, h, count)` of queries `(B, h, N, d)` chosen greedily so that each new one is most orthogonal to those before it.

    Most orthogonal: the smallest largest absolute cosine to any landmark chosen so far.
    """
    unit = F.normalize(q.float(), dim=-1)
    worst = torch.zeros(unit.shape[:-1], device=q.device)
    index = torch.full(unit.shape[:2], first, device=q.device, dtype=torch.long)
    chosen = [index]
    for _ in range(count - 1):
        last = unit.gather(2, index[..., None, None].expand(-1, -1, 1, unit.shape[-1]))
        worst = torch.maximum(worst, (unit * last).sum(-1).abs())
        worst = worst.scatter(2, index[..., None], float("inf"))
        index = worst.argmin(-1)
        chosen.append(index)
    return torch.stack(chosen, dim=-1)


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


def _pool_orthoformer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, frames: int, count: int, first: int) -> torch.Tensor:
    """`_pool_exact` approximated through landmarks: linear in the number of tokens."""
    b, h, n, d = q.shape
    to_landmarks, to_places = orthoformer_kernels(q, k, frames, count, first)
    summaries = torch.einsum("bhlfp,bhfpd->bhlfd", to_places, v.view(b, h, frames, n // frames, d))
    return torch.einsum("bhnl,bhlfd->bhnfd", to_landmarks, summaries)
