"""What every point of a pyramid should say, from the events of a video."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

SAME_LENGTH = 1e-3
"""Events whose lengths differ by less are equally short, features."""


@dataclass(frozen=True)
class Points:
    """The points of all levels, finest first.

    Attributes:
        at: (P,) float, place on the grid of features.
        stride: (P,) float.
        low, high: (P,) float, the larger of the distances to start and end of events that a point takes, features; both ends belong to it.
    """

    at: torch.Tensor
    stride: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


def make_points(lengths: Sequence[int], ranges: Sequence[tuple[float, float]], device: torch.device | str = "cpu") -> Points:
    """The points of levels with these numbers of points and ranges; level l has stride 2 ** l."""
    parts = []
    for level, (length, (low, high)) in enumerate(zip(lengths, ranges, strict=True)):
        at = torch.arange(length, device=device, dtype=torch.float32) * 2**level
        parts.append(torch.stack([at, *(torch.full_like(at, value) for value in (2**level, low, high))]))
    return Points(*torch.cat(parts, 1))


@dataclass(frozen=True)
class Targets:
    """What the points of one video should say.

    Attributes:
        classes: (P, K) float, 1 where a class is positive at a point.
        offsets: (P, K, 2) float, distances to start and end in strides, for every class; or (P, 2) where classes share one. Only where a
            class is positive do they mean anything.
    """

    classes: torch.Tensor
    offsets: torch.Tensor


def assign(
    points: Points, segments: torch.Tensor, labels: torch.Tensor, classes: int, class_aware: bool, radius: float | None = None
) -> Targets:
    """The events that points are positive for.

    A point is positive for an event that it lies in, not on its edge, and whose farther end is at a distance in the range of its level.

    Args:
        points: P of them.
        segments: (N, 2) float, start and end, features.
        labels: (N,) int64 below `classes`.
        classes: K.
        class_aware: every class keeps its own event, of several of one class the last in the list (as UnAV's public code does); otherwise
            the shortest event of all wins, with the classes of all that are as short.
        radius: a point is also at most so many strides from the middle of an event; None: anywhere in it.
    """
    if not len(segments):
        shape = (len(points.at), classes, 2) if class_aware else (len(points.at), 2)
        return Targets(segments.new_zeros(len(points.at), classes), segments.new_zeros(shape))
    to_ends = torch.stack([points.at[:, None] - segments[:, 0], segments[:, 1] - points.at[:, None]], -1)
    inside = to_ends.amin(-1) > 0
    if radius is not None:
        middle, reach = segments.mean(1), radius * points.stride[:, None]
        near = torch.minimum(points.at[:, None] - (middle - reach), (middle + reach) - points.at[:, None]) > 0
        inside = inside & near
    farther = to_ends.amax(-1)
    positive = inside & (farther >= points.low[:, None]) & (farther <= points.high[:, None])
    to_ends = to_ends / points.stride[:, None, None]
    return _by_class(positive, to_ends, labels, classes) if class_aware else _shortest(positive, to_ends, segments, labels, classes)


def _by_class(positive: torch.Tensor, to_ends: torch.Tensor, labels: torch.Tensor, classes: int) -> Targets:
    numbers = positive * torch.arange(1, len(labels) + 1, device=labels.device)
    last = numbers.new_zeros(len(positive), classes).scatter_reduce(1, labels.expand(len(positive), -1), numbers, "amax")
    chosen = (last - 1).clamp(min=0)
    offsets = to_ends.gather(1, chosen[..., None].expand(-1, -1, 2))
    found = (last > 0).to(to_ends.dtype)
    return Targets(found, offsets * found[..., None])


def _shortest(positive: torch.Tensor, to_ends: torch.Tensor, segments: torch.Tensor, labels: torch.Tensor, classes: int) -> Targets:
    lengths = (segments[:, 1] - segments[:, 0]).expand(len(positive), -1).masked_fill(~positive, float("inf"))
    shortest, which = lengths.min(1)
    winners = positive & (lengths <= shortest[:, None] + SAME_LENGTH)
    found = to_ends.new_zeros(len(positive), classes).scatter_reduce(1, labels.expand(len(positive), -1), winners.to(to_ends.dtype), "amax")
    return Targets(found, to_ends[torch.arange(len(which), device=which.device), which])


def token_labels(segments: torch.Tensor, labels: torch.Tensor, length: int, classes: int) -> torch.Tensor:
    """(T, K) bool: tokens that lie in events of a class, start and end included; of an event between two tokens the nearest one.

    Args:
        segments: (N, 2) float, features.
        labels: (N,) int64.
        length: T.
        classes: K.
    """
    inside = tokens_inside(segments, length)
    found = torch.zeros(length, classes, dtype=torch.bool, device=segments.device)
    token, event = inside.nonzero(as_tuple=True)
    found[token, labels[event]] = True
    return found


def tokens_inside(segments: torch.Tensor, length: int) -> torch.Tensor:
    """(T, N) bool: tokens that lie in an event (N, 2), start and end included; of one between two tokens the nearest."""
    at = torch.arange(length, device=segments.device, dtype=segments.dtype)
    inside = (at[:, None] >= segments[:, 0]) & (at[:, None] <= segments[:, 1])
    nearest = (segments.mean(1).round().clamp(0, length - 1) == at[:, None]) & ~inside.any(0)
    within = (segments[:, 1] >= -0.5) & (segments[:, 0] <= length - 0.5)
    return inside | (nearest & within)
