"""The loss of dense predictive coding (DPC, equation 2.5; MemDPC, equation 3.6): which of all vectors of the batch follows?"""

import torch
from torch.nn import functional as F


def as_rows(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, q, D, h, w) as vectors (B, q * h * w, D): step by step, each row by row."""
    return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)


def scores(predicted: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Dot products, without temperature, of every predicted vector with every candidate.

    Args:
        predicted: (B, P, D), P = q * s * s places of the predicted steps.
        candidates: (C, P, D), those of this batch or of several; float32 or float64.

    Returns:
        (B * P, C * P).
    """
    return predicted.flatten(0, 1) @ candidates.flatten(0, 1).T


def positives(clips: int, places: int, first: int = 0, device: torch.device | None = None) -> torch.Tensor:
    """(clips * places,) int64: the column of `scores` that is right for each row.

    Args:
        clips: B.
        places: P.
        first: number of the first own clip among the candidates.
    """
    return torch.arange(clips * places, device=device) + first * places


def candidate_kinds(clips: int, steps: int, positions: int) -> torch.Tensor:
    """What each candidate is to each query, (B * q * p, B * q * p) int8.

    1: the positive; -1: the same place at another time; -3: another place of the same clip; 0: another clip. There are 1 : q - 1 :
    (p - 1) q : (B - 1) p q of them in a row.
    """
    clip, step, place = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, (clips, steps, positions)), indexing="ij"))
    same_clip, same_step, same_place = (axis[:, None] == axis for axis in (clip, step, place))
    kinds = torch.zeros(same_clip.shape, dtype=torch.int8)
    kinds[same_clip & ~same_place] = -3
    kinds[same_clip & same_place & ~same_step] = -1
    kinds[same_clip & same_place & same_step] = 1
    return kinds


def prediction_loss(score: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the rows: ln(number of candidates) where all candidates are alike."""
    return F.cross_entropy(score, target)


def accuracy(score: torch.Tensor, target: torch.Tensor, k: int = 1) -> torch.Tensor:
    """Percent of the rows whose right candidate is among the k that score highest."""
    if k == 1:
        return (score.argmax(1) == target).float().mean() * 100
    return (score.topk(min(k, score.shape[1]), 1).indices == target[:, None]).any(1).float().mean() * 100


def entropy(probabilities: torch.Tensor, dim: int) -> torch.Tensor:
    """-sum p ln p along a dimension, in nats."""
    return torch.special.entr(probabilities).sum(dim)
