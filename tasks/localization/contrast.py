"""Contrast between picture and sound over videos and inside of them, its negatives chosen by learned scores (DEL, SCL; after A2Summ)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.engine.exchange import gather_with_gradient, row_counts
from tasks.core.world import world
from tasks.localization.config import STREAMS, ContrastConfig

LARGEST_SCALE = 100.0


class TokenScores(nn.Module):
    """Whether a token lies in an event, and in which; and the scales of the two contrasts.

    Args:
        dim: channels of the tokens.
        classes: K.
    """

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.score = nn.ModuleDict({name: nn.Linear(dim, 1) for name in STREAMS})
        self.classes = nn.ModuleDict({name: nn.Linear(dim, classes) for name in STREAMS})
        self.inter_scale, self.intra_scale = (nn.Parameter(torch.tensor(math.log(1 / 0.07))) for _ in range(2))

    def forward(self, tokens: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Streams of (B, T, D) -> streams of (B, T) score logits, streams of (B, T, K) class logits."""
        return (
            {name: self.score[name](values).squeeze(-1) for name, values in tokens.items()},
            {name: self.classes[name](values) for name, values in tokens.items()},
        )


def scale_of(logarithm: torch.Tensor) -> torch.Tensor:
    """The factor of cosines, at most LARGEST_SCALE."""
    return logarithm.exp().clamp(max=LARGEST_SCALE)


def inter_loss(first: torch.Tensor, second: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric cross-entropy of the cosines between all videos of a batch over all processes; the same video is the positive.

    Args:
        first, second: (B, D) of the two modalities.
        scale: factor of the cosines.
    """
    counts = row_counts(len(first), first.device)
    own = sum(counts[: world().rank]) + torch.arange(len(first), device=first.device)
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    forth = scale * first @ gather_with_gradient(second, counts).T
    back = scale * second @ gather_with_gradient(first, counts).T
    return (F.cross_entropy(forth, own) + F.cross_entropy(back, own)) / 2


@dataclass
class Groups:
    """Every class of every video: its tokens, and which may be its negatives.

    Attributes:
        video: (M,) int64, number of the video in the batch.
        label: (M,) int64.
        keys: (M, T) bool, tokens inside of an event of this class.
        background: (M, T) bool, valid tokens apart from all events of the video.
    """

    video: torch.Tensor
    label: torch.Tensor
    keys: torch.Tensor
    background: torch.Tensor


def group(token_classes: torch.Tensor, mask: torch.Tensor, dilation: int) -> Groups:
    """The groups of a batch that have tokens and background.

    Args:
        token_classes: (B, T, K) bool, of `targets.token_labels`.
        mask: (B, T) bool.
        dilation: tokens on both sides of an event that are no background.
    """
    token_classes = token_classes & mask[..., None]
    inside = token_classes.any(-1)
    near = F.max_pool1d(inside[:, None].float(), 2 * dilation + 1, 1, dilation)[:, 0] > 0
    background = mask & ~near
    video, label = (token_classes.any(1) & background.any(1, keepdim=True)).nonzero(as_tuple=True)
    return Groups(video, label, token_classes[video, :, label], background[video])


def hard_negatives(
    groups: Groups, scores: torch.Tensor, classes: torch.Tensor, lengths: torch.Tensor, share: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Background that is most like an event of a group's class: taken for that class, in the order of the scores; where none is taken for
    it, all background in that order.

    Args:
        groups: M of them.
        scores: (B, T), higher for what looks more like an event.
        classes: (B, T) int64, the class that a token is taken for; -1: for any.
        lengths: (B,) int64, valid tokens.
        share: one of so many valid tokens is a negative at most, but one at least.

    Returns:
        (M, N) int64 tokens; (M, N) bool, which of them count.
    """
    alike = groups.background & ((classes[groups.video] == groups.label[:, None]) | (classes[groups.video] < 0))
    possible = torch.where(alike.any(1, keepdim=True), alike, groups.background)
    most = (lengths // share).clamp(min=1)
    ranked = scores[groups.video].float().masked_fill(~possible, float("-inf"))
    _, tokens = ranked.topk(int(most.max()), 1)
    counted = possible.gather(1, tokens) & (torch.arange(tokens.shape[1], device=tokens.device) < most[groups.video][:, None])
    return tokens, counted


def intra_sums(
    groups: Groups,
    inside: torch.Tensor,
    tokens: dict[str, torch.Tensor],
    negatives: dict[str, tuple[torch.Tensor, torch.Tensor]],
    scale: torch.Tensor,
) -> torch.Tensor:
    """(M,) losses: the mean of an event's tokens in one modality against that in the other, and against background of its own modality,
    averaged over both modalities (InfoNCE of cosines).

    Args:
        groups: M of them.
        inside: (B, T, K) bool, valid tokens in events of each class.
        tokens: stream -> (B, T, D).
        negatives: stream -> of `hard_negatives`.
        scale: factor of the cosines.
    """
    # sums of all classes of a video at once: a copy of its tokens for every class would be large
    sums = {name: torch.bmm(inside.transpose(1, 2).to(x.dtype), x)[groups.video, groups.label] for name, x in tokens.items()}
    mean = {name: F.normalize(x, dim=-1) for name, x in sums.items()}
    losses = []
    for name, other in zip(STREAMS, reversed(STREAMS), strict=True):
        chosen, counted = negatives[name]
        others = F.normalize(tokens[name][groups.video[:, None], chosen], dim=-1)
        against = torch.einsum("md,mnd->mn", mean[name], others)
        alike = (mean[name] * mean[other]).sum(-1, keepdim=True)
        logits = torch.cat([scale * alike, (scale * against).masked_fill(~counted, float("-inf"))], 1)
        losses.append(-logits.log_softmax(-1)[:, 0])
    return sum(losses) / len(losses)


def intra_loss(
    tokens: dict[str, torch.Tensor],
    scores: dict[str, torch.Tensor],
    classes: dict[str, torch.Tensor],
    token_classes: torch.Tensor,
    mask: torch.Tensor,
    config: ContrastConfig,
    scale: torch.Tensor,
    random: torch.Tensor | None = None,
) -> tuple[torch.Tensor, int]:
    """The contrast inside of videos: a mean over the classes of each video, summed over videos.

    Args:
        tokens: stream -> (B, T, D).
        scores: stream -> (B, T) logits of tokens in events.
        classes: stream -> (B, T, K) logits.
        token_classes: (B, T, K) bool, the truth.
        mask: (B, T) bool.
        config: dilation and share.
        scale: factor of the cosines.
        random: (B, T) numbers by which negatives are drawn; None: by scores.

    Returns:
        the sum, 0 without any such video; the number of videos in it.
    """
    groups = group(token_classes, mask, config.dilation)
    if not len(groups.video):
        return (sum(values.sum() for values in tokens.values()) + scale) * 0, 0  # every weight gets a gradient
    lengths = mask.sum(1)
    negatives = {}
    for name in STREAMS:
        ranks, taken = (
            (scores[name], classes[name].argmax(-1)) if random is None else (random, torch.full_like(mask, -1, dtype=torch.int64))
        )
        negatives[name] = hard_negatives(groups, ranks.detach(), taken, lengths, config.share)
    each = intra_sums(groups, token_classes & mask[..., None], tokens, negatives, scale)
    per_video = torch.bincount(groups.video, minlength=len(mask))
    return (each / per_video[groups.video]).sum(), int((per_video > 0).sum())
