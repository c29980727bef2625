"""From scores of points to candidates for events, on the grid of features; videos of any length in bounded memory."""

from collections.abc import Callable, Iterator

import torch

from tasks.core.inference.suppression import suppress
from tasks.localization.config import EventsConfig
from tasks.localization.model import EventLocalizer, Output

Candidates = dict[str, torch.Tensor]
"""`segments` (N, 2) float, start and end on the grid of features; `scores` (N,) in (0, 1); `labels` (N,) int64."""
Span = tuple[float, float]


def decode(output: Output, events: EventsConfig, within: list[Span] | None = None) -> list[Candidates]:
    """What the points of a batch say, before suppression.

    Args:
        output: of the model.
        events: least score and length, pairs of point and class that are kept of each level.
        within: of each video, the part [first, last) of its grid whose points count; None: all.

    Returns:
        candidates of each video, best first within a level.
    """
    found: list[Candidates] = []
    for number in range(len(output.masks[0])):
        levels = [
            _one_level(logits[number], offsets[number], mask[number], 2**level, events, within and within[number])
            for level, (logits, offsets, mask) in enumerate(zip(output.logits, output.offsets, output.masks, strict=True))
        ]
        found.append({name: torch.cat([level[name] for level in levels]) for name in ("segments", "scores", "labels")})
    return found


def _one_level(
    logits: torch.Tensor, offsets: torch.Tensor, mask: torch.Tensor, stride: int, events: EventsConfig, within: Span | None
) -> Candidates:
    at = torch.arange(len(mask), device=mask.device, dtype=torch.float32) * stride
    counted = mask if within is None else mask & (at >= within[0]) & (at < within[1])
    classes = logits.shape[-1]
    scores = (logits.float().sigmoid() * counted[:, None]).flatten()
    scores, pairs = scores.topk(min(events.points, len(scores)))
    pairs = pairs[scores > events.min_score]
    scores = scores[: len(pairs)]
    points, labels = pairs // classes, pairs % classes
    chosen = (offsets[points, labels] if offsets.ndim == 3 else offsets[points]).float() * stride
    segments = torch.stack([at[points] - chosen[:, 0], at[points] + chosen[:, 1]], 1)
    kept = segments[:, 1] - segments[:, 0] > events.min_length
    return {"segments": segments[kept], "scores": scores[kept], "labels": labels[kept]}


def window_steps(window: int, overlap: float, step: int) -> tuple[int, int]:
    """(window, hop), multiples of the coarsest level's stride, so that points of all windows lie on one grid; arguments as `windows`."""
    size = -(-window // step) * step
    return size, max(step, int(size * (1 - overlap)) // step * step)


def windows(length: int, window: int | None, overlap: float, step: int) -> Iterator[tuple[int, int, Span]]:
    """The parts in which a video is seen: (first, last + 1, the part of it whose points count, counted from first).

    Every point counts in one window, the one in which it is farthest from the ends. Windows begin where the coarsest level has a point.

    Args:
        length: features of the video.
        window: features of a window; None: all in one.
        overlap: share of a window that the next one sees again.
        step: stride of the coarsest level.
    """
    if window is None or length <= window:
        yield 0, length, (0.0, float(length))
        return
    size, hop = window_steps(window, overlap, step)
    starts = list(range(0, length - size + hop, hop))
    for number, start in enumerate(starts):
        stop = min(start + size, length)
        low = start if number == 0 else start + (size - hop) // 2
        high = length if number == len(starts) - 1 else starts[number + 1] + (size - hop) // 2
        yield start, stop, (float(low - start), float(high - start))


def settle(candidates: Candidates, events: EventsConfig) -> Candidates:
    """What is left of the candidates of a video after those that say the same are suppressed, the best first.

    Args:
        candidates: of `decode`, on any grid.
        events: how, and how many are kept.
    """
    if events.method == "none":
        best = candidates["scores"].argsort(descending=True, stable=True)[: events.keep]
        return {name: values[best] for name, values in candidates.items()}
    kept = suppress(
        candidates["segments"],
        candidates["scores"],
        candidates["labels"],
        sigma=events.sigma,
        min_score=events.min_score,
        voting=events.voting or 0.0,
        max_keep=events.keep,
        class_agnostic=events.class_agnostic,
        method=events.method,
        iou=events.iou,
    )
    return dict(zip(("segments", "scores", "labels"), kept, strict=True))


@torch.inference_mode()
def localize(
    model: EventLocalizer,
    read: Callable[[int, int], dict[str, torch.Tensor]],
    length: int,
    events: EventsConfig,
    stop: Callable[[], None] = lambda: None,
) -> Candidates:
    """Candidates in a video of any length, seen in windows; what is in memory is one window and the candidates.

    Args:
        model: in testing mode.
        read: from first and last + 1 to the features between them: `visual` (C_v, n), `audio` (C_a, n), those that the model takes.
        length: features of the video.
        events: windows and thresholds.
        stop: called before every window; raises to end.
    """
    device = next(model.parameters()).device
    parts: list[Candidates] = []
    for first, last, counted in windows(length, events.window, events.overlap, 2 ** (model.config.levels - 1)):
        stop()
        streams = {name: values[None].to(device) for name, values in read(first, last).items()}
        mask = torch.ones(1, last - first, dtype=torch.bool, device=device)
        part = decode(model(streams.get("visual"), streams.get("audio"), mask), events, [counted])[0]
        part["segments"] += first
        parts.append({name: values.cpu() for name, values in part.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in ("segments", "scores", "labels")}
