"""Losses of contrastive learning with several positives, and how positives are mined (thesis section 4.3)."""

import torch
from torch.nn import functional as F


def logits(query: torch.Tensor, key: torch.Tensor, queue: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cosines over the temperature: the own key first, then the queue.

    Args:
        query, key: (B, D), of length 1; row i of both is of the same video.
        queue: (K, D), of length 1.

    Returns:
        (B, 1 + K).
    """
    return torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / temperature


def info_nce(scores: torch.Tensor) -> torch.Tensor:
    """Equation 4.1: cross-entropy of (B, 1 + K) with the own key, column 0."""
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))


def inside_log(scores: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Equation 4.2: minus the logarithm of the share of all positives together, mean over rows.

    Args:
        scores: (B, 1 + K).
        positive: bool, same shape, at least one in each row.
    """
    return (scores.logsumexp(1) - scores.masked_fill(~positive, -torch.inf).logsumexp(1)).mean()


def outside_log(scores: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """The mean over positives of minus the logarithm of the share of each, mean over rows; arguments as `inside_log`."""
    share = scores.log_softmax(1)
    return -((share * positive).sum(1) / positive.sum(1)).mean()


LOSSES = {"inside": inside_log, "outside": outside_log}


def mine(similarity: torch.Tensor, source: torch.Tensor, queued: torch.Tensor, topk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The places of the queue that are most alike in the other view.

    Args:
        similarity: (B, K), of the other view's feature of each clip and of what is in the queue.
        source: (B,) int64, the video a clip was cut from.
        queued: (K,) int64, the same of what is in the queue; -1 where it is still empty.
        topk: places for each row.

    Returns:
        (B, K) bool each: mined, `topk` in a row (fewer where the queue holds fewer), none of the own source or empty; of the own source.
    """
    own = source[:, None] == queued
    allowed = similarity.masked_fill(own | (queued < 0), -torch.inf)
    best = allowed.topk(topk, 1).indices
    mined = torch.zeros_like(own).scatter(1, best, True) & allowed.isfinite()
    return mined, own


def without_own_key(positive: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
    """Positives (B, 1 + K) without the own key, column 0, in rows that have others; as they are where `drop`, a bool scalar, is false."""
    others = positive[:, 1:].any(1)
    own = positive[:, 0] & ~(others & drop)
    return torch.cat([own[:, None], positive[:, 1:]], 1)


def hit_rate(scores: torch.Tensor, positive: torch.Tensor, k: int) -> torch.Tensor:
    """Share of rows with a positive among the k highest scores; arguments as `inside_log`."""
    best = scores.topk(min(k, scores.shape[1]), 1).indices
    return positive.gather(1, best).any(1).to(scores.dtype).mean()
