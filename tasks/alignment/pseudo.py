"""What co-training takes for the truth: times that both encoders agree on, and which sentences are alignable; all without gradient.

Source: Han et al., CVPR 2022, section 3.4, and the variants of its public code. Masks are (B, K, T) bool.
"""

import math

import torch

from tasks.alignment.config import CotrainConfig


def spans(
    similarity: torch.Tensor, durations: torch.Tensor, video_mask: torch.Tensor, text_mask: torch.Tensor, how: str, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each sentence is most similar, for as long as it lasts.

    Args:
        similarity: (B, K, T) cosines.
        durations: (B, K) int64, features of each sentence, at least 1 where there is one.
        video_mask, text_mask: (B, T), (B, K) bool.
        how: `CotrainConfig.windows`.
        temperature: of the softmaxes of `exclusive`.

    Returns:
        (B, K) int64, the first feature of each span; their masks, of `exclusive` without the first and last feature of the window.
    """
    length = similarity.shape[2]
    scores, inside = similarity, video_mask.clone()
    if how == "exclusive":
        scores = exclusive(similarity, video_mask, text_mask, temperature)
        inside[:, 0] = inside[:, -1] = False
    scores = (scores * inside[:, None]).double()
    begins = torch.arange(length, device=similarity.device)
    ends = begins + durations[..., None]
    fits = ends <= video_mask.sum(1)[:, None, None] if how == "mean" else ends <= length
    sums = _between(scores, ends)
    counts = _between(inside[:, None].expand_as(scores).double(), ends)
    means = torch.where(counts > 0, sums / counts.clamp(min=1), 0.0 if how == "exclusive" else -torch.inf)
    means = means.masked_fill(~fits, 0.0 if how == "exclusive" else -torch.inf)
    starts = means.argmax(2)
    masks = (begins >= starts[..., None]) & (begins < (starts + durations)[..., None]) & text_mask[..., None] & inside[:, None]
    return starts, masks


def exclusive(similarity: torch.Tensor, video_mask: torch.Tensor, text_mask: torch.Tensor, temperature: float) -> torch.Tensor:
    """(B, K, T) probabilities: a softmax over sentences, as if a feature belonged to one of them, then one over time."""
    logits = (similarity / temperature).masked_fill(~video_mask[:, None], -6e4).masked_fill(~text_mask[..., None], -6e4)
    return (logits.softmax(1) / temperature).softmax(2)


def _between(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """(B, K, T): the sum of values (B, K, T) from every place to its end (exclusive)."""
    total = torch.cat([torch.zeros_like(values[..., :1]), values.cumsum(-1)], -1)
    return total.gather(2, ends.clamp(max=values.shape[2])) - total[..., :-1]


def iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(B, K) of masks."""
    return (first & second).sum(-1) / (first | second).sum(-1).clamp(min=1)


def agreed(dual: torch.Tensor, joint: torch.Tensor, given: torch.Tensor, config: CotrainConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Times after agreement: the union where both encoders agree, else those given.

    Args:
        dual, joint: masks of `spans`.
        given: masks of the times that came with the sentences.
        config: `agree_iou`, `one_sentence`.

    Returns:
        masks; (B, K) bool, which sentences changed.
    """
    shared = iou(dual, joint)
    changed = shared > 0 if config.agree_iou == 0 else shared >= config.agree_iou
    masks = torch.where(changed[..., None], dual | joint, given)
    return (first_only(masks, given) if config.one_sentence else masks), changed


def first_only(masks: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Masks in which each feature belongs to the first of its sentences only; a sentence that loses all has those given again."""
    alone = masks & (masks.cumsum(1) == 1)
    return torch.where(alone.any(-1, keepdim=True), alone, given)


def mean_scores(similarity: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(B, K): how similar sentences are at their times, `similarity` (B, K, T) being the sum of both encoders'."""
    return (similarity * masks).sum(-1) / masks.sum(-1).clamp(min=1)


def best_share(scores: torch.Tensor, alpha: float) -> torch.Tensor:
    """(M,) bool: the ceil(alpha M) highest scores (M,)."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[scores.argsort(descending=True, stable=True)[: math.ceil(round(alpha * len(scores), 9))]] = True
    return kept


def standard_maxima(dual: torch.Tensor, joint: torch.Tensor) -> torch.Tensor:
    """(M,): the sum of the highest similarities (M,) to both encoders, each brought to mean 0 and deviation 1."""
    return sum((values - values.mean()) / values.std() for values in (dual, joint))


def above_quantile(scores: torch.Tensor, alpha: float) -> torch.Tensor:
    """(M,) bool: scores from the (1 - alpha)-quantile on."""
    return -scores <= torch.quantile(-scores, alpha)


def median_labels(dual: torch.Tensor, joint: torch.Tensor) -> torch.Tensor:
    """(M,) int64: 1 above both medians, 0 below both, -1 else."""
    above, below = (torch.stack([compare(v, torch.quantile(v, 0.5)) for v in (dual, joint)]).all(0) for compare in (torch.gt, torch.lt))
    return torch.where(above, 1, torch.where(below, 0, -1))
