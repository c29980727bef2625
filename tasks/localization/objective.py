"""Losses of a localiser: focal loss of the classes, distance-IoU loss of the boundaries, and those of alignment and token scores."""

import torch
import torch.nn.functional as F

from tasks.localization.targets import Targets

SMALLEST = 1e-8
"""Below it lengths are not divided by."""


def focal(logits: torch.Tensor, target: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Sigmoid focal loss of every entry (Lin et al., ICCV 2017, equation 5).

    Args:
        logits: any shape.
        target: the same shape, in [0, 1].
        alpha: weight of positives; negatives have 1 - alpha.
        gamma: how much less what is easy counts.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    return (alpha * target + (1 - alpha) * (1 - target)) * (1 - right) ** gamma * entropy


def distance_iou(offsets: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - IoU + (distance of the middles / length of what encloses both) ** 2 (Zheng et al., AAAI 2020, in one dimension).

    Args:
        offsets, target: (..., 2), not negative: distances of one point to start and end.

    Returns:
        (...).
    """
    low, high = torch.minimum(offsets, target), torch.maximum(offsets, target)
    overlap = low.sum(-1)
    union = (offsets.sum(-1) + target.sum(-1) - overlap).clamp(min=SMALLEST)
    apart = ((offsets - target) * offsets.new_tensor([-0.5, 0.5])).sum(-1)
    return 1 - overlap / union + (apart / high.sum(-1).clamp(min=SMALLEST)) ** 2


def head_sums(
    logits: torch.Tensor, offsets: torch.Tensor, mask: torch.Tensor, targets: list[Targets], smoothing: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums over a batch of the losses of the heads, and the number of positive points.

    Args:
        logits: (B, P, K), all levels.
        offsets: (B, P, 2) or (B, P, K, 2).
        mask: (B, P) bool.
        targets: of each video.
        smoothing: of labels, as in ActionFormer's public code: y (1 - s) + s / (K + 1).

    Returns:
        focal loss over valid points and classes; distance-IoU loss over positive points, or pairs of point and class where these have
        their own; positive points.
    """
    truth = torch.stack([each.classes for each in targets]).to(logits.dtype)
    distances = torch.stack([each.offsets for each in targets])
    positive = (truth > 0) & mask[..., None]
    points = positive.any(-1)
    chosen = positive if offsets.ndim == 4 else points
    smooth = truth * (1 - smoothing) + smoothing / (truth.shape[-1] + 1)
    return (
        (focal(logits, smooth) * mask[..., None]).sum(),
        distance_iou(offsets[chosen], distances[chosen].to(offsets.dtype)).sum(),
        points.sum(),
    )


def pair_loss(pairs: torch.Tensor, gates: torch.Tensor, events: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the learned mask against "both tokens lie in a common event", and of the gates against "in any event".

    Args:
        pairs: (B, 2 T, 2 T) logits, picture before sound.
        gates: (B, 2 T) logits.
        events: of each video, (T, N) bool of `targets.tokens_inside`.
        mask: (B, T) bool.

    Returns:
        a mean over videos.
    """
    losses = []
    for logits, gate, inside, valid in zip(pairs, gates, events, mask, strict=True):
        inside = (inside & valid[:, None]).repeat(2, 1).to(logits.dtype)
        valid = valid.repeat(2).to(logits.dtype)
        common = (inside @ inside.T > 0).to(logits.dtype)
        weights = valid[:, None] * valid
        entropy = F.binary_cross_entropy_with_logits(logits, common, weights, reduction="sum") / weights.sum()
        any_event = (inside.sum(1) > 0).to(logits.dtype)
        losses.append(entropy + F.binary_cross_entropy_with_logits(gate, any_event, valid, reduction="sum") / valid.sum())
    return torch.stack(losses).mean()
