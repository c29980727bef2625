"""The four losses of cVCLR (thesis section 3.3.1, after VCLR, Kuang et al., 2021). Embeddings are of unit length, losses float32."""

import itertools

import torch
from torch.nn import functional as F


def info_nce(positive: torch.Tensor, negatives: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 3.1: how far the positive is from standing out.

    Args:
        positive: (...) cosine of query and positive.
        negatives: (..., N) cosines of query and negatives; -inf: no negative.

    Returns:
        the mean, a scalar.
    """
    logits = torch.cat([positive[..., None], negatives], -1) / temperature
    return (logits.logsumexp(-1) - logits[..., 0]).mean()


def inter(query: torch.Tensor, keys: torch.Tensor, negatives: torch.Tensor, same: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 3.3: three frames of a video against frames of other videos; the mean of three losses.

    Args:
        query: (B, D).
        keys: (B, 3, D).
        negatives: (N, D).
        same: (B, N) bool, true where a negative is of the query's own video and so does not count.
    """
    positive = torch.einsum("bd,bpd->bp", query, keys)
    against = (query @ negatives.T).masked_fill(same, -torch.inf)
    return info_nce(positive, against[:, None].expand(-1, keys.shape[1], -1), temperature)


def intra(query: torch.Tensor, keys: torch.Tensor, temperature: float, form: str = "softmax") -> torch.Tensor:
    """Another view of the same frame against the other two frames of the video.

    Args:
        query: (B, D).
        keys: (B, 3, D), the positive first.
        form: `softmax`, equation 3.2; `pairwise`, the mean of one loss for each other frame, as VCLR's public code has it.
    """
    cosines = torch.einsum("bd,bpd->bp", query, keys)
    positive, negatives = cosines[:, 0], cosines[:, 1:]
    if form == "pairwise":
        return info_nce(positive[:, None].expand_as(negatives), negatives[..., None], temperature)
    return info_nce(positive, negatives, temperature)


def segment(query: torch.Tensor, key: torch.Tensor, negatives: torch.Tensor, same: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 3.6: a video against other videos. query, key: (B, D); negatives: (N, D); same: (B, N) bool as for `inter`."""
    return inter(query, key[:, None], negatives, same, temperature)


def shuffles(count: int) -> torch.Tensor:
    """Orders of `count` clips that are neither forwards nor backwards, (n, count) int64; four for three clips."""
    forwards = tuple(range(count))
    return torch.tensor([order for order in itertools.permutations(forwards) if order not in (forwards, forwards[::-1])])


def draw_orders(draws: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shuffles clips with probability 1/2.

    Args:
        draws: (B, 2) uniform in [0, 1): whether, and which order.

    Returns:
        (B, count) int64 order and (B,) int64, 1 where it is a shuffle, else 0.
    """
    table = shuffles(count).to(draws.device)
    shuffled = draws[:, 0] < 0.5
    chosen = table[(draws[:, 1] * len(table)).long()]
    return torch.where(shuffled[:, None], chosen, torch.arange(count, device=draws.device)), shuffled.long()


def order(logits: torch.Tensor, anchor: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Which of the two tuples is shuffled, if any (VCLR section 3.3).

    Args:
        logits: (B, 4) for none, anchor, positive, both.
        anchor, positive: (B,) int64, 1 where shuffled.
    """
    return F.cross_entropy(logits, anchor + 2 * positive)
