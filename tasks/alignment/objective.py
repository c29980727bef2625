"""Losses over the sentences and features of a batch: MIL-NCE in both directions, and alignability (Han et al., CVPR 2022, section 3.3).

Rows of all videos stand one after the other: N features, M sentences. What belongs to one another is a matrix (N, M).
"""

import torch
import torch.nn.functional as F


def correspondence(
    video: torch.Tensor, text: torch.Tensor, right: torch.Tensor, temperature: float, kept: torch.Tensor | None = None
) -> torch.Tensor:
    """MIL-NCE from sentences to features and from features to sentences, the mean of both and over stages.

    -log of the share that positives have of all exponentials, each sentence against the features of all videos of the batch, and each
    feature that has a positive against all their sentences.

    Args:
        video: (S, N, C) of length 1.
        text: (S, M, C), or (1, M, C) for all stages.
        right: (N, M), logarithms of the weights with which pairs are positive: 0 where they surely are, -inf where they are not.
        temperature: of the cosines.
        kept: (M,) bool, sentences whose own loss counts, and of features that of those which have one of them; None: all.

    Returns:
        scalar; 0, with a gradient of 0, where there is nothing to compare.
    """
    logits = torch.einsum("snc,smc->snm", video, text.expand(len(video), -1, -1)) / temperature
    counted = right > -torch.inf
    counted = counted if kept is None else counted & kept
    shares = logits + right
    found = []
    for dim in (1, 2):
        some = counted.any(dim - 1)
        if some.any():
            own, every = (part.transpose(1, 2)[:, some] if dim == 1 else part[:, some] for part in (shares, logits))
            found.append((every.logsumexp(2) - own.logsumexp(2)).mean())
    return sum(found) / len(found) if found else 0 * logits.sum()


def alignability(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with positives weighed as the others are together.

    Args:
        logits: (M,).
        labels: (M,) 1: alignable, 0: not, -1: does not count.

    Returns:
        scalar; 0, with a gradient of 0, where one of the two is missing.
    """
    counted = labels >= 0
    positive = (labels == 1).sum()
    if positive == 0 or positive == counted.sum():
        return 0 * logits.sum()
    weight = (counted.sum() - positive) / positive
    return F.binary_cross_entropy_with_logits(logits[counted], labels[counted].to(logits.dtype), pos_weight=weight)
