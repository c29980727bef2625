"""The trained networks over a video of any length, in bounded memory: one pass per part, forwards."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tasks.anomalies.config import AutoencoderConfig, FlowConfig, whole_frames
from tasks.anomalies.discriminator import Discriminator
from tasks.anomalies.model import Autoencoder
from tasks.anomalies.prepare import CHUNK, as_batch, flow_stream, resized, side
from tasks.anomalies.score import scored_frames, scored_index
from tasks.core.clips.augment import TrainTransform
from tasks.core.flow.flow import encode_flow
from tasks.core.towers.visual import FrameEncoder
from tasks.core.video.reader import VideoReader

GRID = 16
"""Cells of the heat map along each side of the picture."""


class Networks(nn.Module):
    """The parts of a detector, as they are kept in a model folder.

    Args:
        architecture: `parts`, `autoencoder`, `flow` and `semantic` (features, hidden, normalize, encoder) of the model's config.json.
    """

    def __init__(self, architecture: dict[str, Any]):
        super().__init__()
        self.model = AutoencoderConfig(**architecture["autoencoder"])
        self.flow = FlowConfig(**architecture["flow"])
        self.parts: tuple[str, ...] = tuple(architecture["parts"])
        for part in ("appearance", "motion"):
            if part in self.parts:
                setattr(self, part, Autoencoder(self.model))
        if "semantic" in self.parts:
            kept = architecture["semantic"]
            self.semantic = Discriminator(kept["features"], kept["hidden"], kept["normalize"])
            self.features = FrameEncoder(kept["encoder"])


@dataclass
class Raw:
    """What the networks say of the frames that get a score.

    Attributes:
        frame: (N,) int64 decode ordinals.
        values: part -> (N,) float64: mean squared errors (appearance, motion), probability of being anomalous (semantic).
        cells: part -> (N, GRID, GRID) float16, mean squared error per cell.
    """

    frame: np.ndarray
    values: dict[str, np.ndarray] = field(default_factory=dict)
    cells: dict[str, np.ndarray] = field(default_factory=dict)


@torch.no_grad()
def raw_scores(
    networks: Networks,
    reader: VideoReader,
    start: int,
    stop: int,
    *,
    short_side: int | None,
    edges: str = "pad",
    stride: int = 1,
    step: int = 1,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> Raw:
    """Every part over frames [start, stop).

    Args:
        networks: in evaluation mode.
        short_side: of the frames that the appearance part was trained on.
        stride: windows between scored frames; frames without a window of their own take the nearest one's values.
        step: every step-th frame is seen, for videos with more frames a second than those of the training.
        progress: called with frames done; their sum is stop - start.
    """
    device = next(networks.parameters()).device
    numbers = np.arange(start, stop, step)
    length = networks.model.frames
    range_ = scored_frames(len(numbers), length, edges)
    stride = min(stride, length)
    at = np.arange(range_.start, range_.stop, stride)
    last = stop if edges == "pad" else (numbers[range_.stop - 1] + 1 if len(at) else start)
    raw = Raw(np.arange(numbers[at[0]], last) if len(at) else np.zeros(0, np.int64))
    nearest = _nearest(numbers[at], raw.frame)
    tick = _Shared(progress, len(networks.parts))
    for part in networks.parts:
        if part == "semantic":
            raw.values[part] = _probabilities(networks, reader, numbers[at], device, tick)[nearest]
            tick(stop - start - tick.since)
        else:
            side_px = short_side if part == "appearance" else side(reader, networks.flow.short_side)
            seen = _every(reader.frames(start, stop, side_px), start, step, tick)
            clips = _pictures(seen, networks.model.image_size, device) if part == "appearance" else _flows(seen, networks, device)
            errors, cells = _collected(window_errors(getattr(networks, part), clips, stride, batch, edges == "pad"))
            raw.values[part], raw.cells[part] = errors[nearest], cells[nearest]
        tick.end_of_pass()
    return raw


def window_errors(
    network: Autoencoder, frames: Iterable[torch.Tensor], stride: int, batch: int, pad: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Reconstruction error of the scored frame of every window of a stream.

    Args:
        network: in evaluation mode.
        frames: chunks `(n, 3, S, S)` in [-1, 1].
        stride: frames between windows, at most a window's length.
        batch: windows at once.
        pad: make windows for the first and last frames too, by repeating them.

    Yields:
        `(b,)` mean squared errors, and `(b, GRID, GRID)` per cell, in order.
    """
    length = network.config.frames
    before = scored_index(length)
    held = final = None
    for chunk in _and_end(frames):
        ended = chunk is None
        if ended and held is None:
            return
        if ended:
            chunk = final.expand(length - 1 - before if pad else 0, -1, -1, -1)
        elif held is None:
            held = chunk[:1].expand(before if pad else 0, -1, -1, -1)
        final = chunk[-1:]
        held = torch.cat((held, chunk))
        while len(held) >= length + (0 if ended else (batch - 1) * stride):
            windows = held.unfold(0, length, stride)[:batch].permute(0, 1, 4, 2, 3)
            difference = (network(windows)[:, :, before] - windows[:, :, before]).square().mean(1)
            yield difference.mean((1, 2)), F.adaptive_avg_pool2d(difference, GRID)
            held = held[len(windows) * stride :]


def _and_end(chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor | None]:
    yield from chunks
    yield None


def _collected(errors: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    found = [(error.double().cpu().numpy(), cells.half().cpu().numpy()) for error, cells in errors]
    if not found:
        return np.zeros(0), np.zeros((0, GRID, GRID), np.float16)
    return np.concatenate([error for error, _ in found]), np.concatenate([cells for _, cells in found])


def _every(
    frames: Iterator[tuple[int, float, np.ndarray]], start: int, step: int, tick: "_Shared"
) -> Iterator[tuple[int, float, np.ndarray]]:
    for number, t, frame in frames:
        if (number - start) % step == 0:
            yield number, t, frame
        tick(1)


def _pictures(frames: Iterator[tuple[int, float, np.ndarray]], size: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Chunks of what the appearance part sees, `(n, 3, size, size)`."""
    transform = TrainTransform(whole_frames(), size)
    held: list[np.ndarray] = []
    for _, _, frame in frames:
        held.append(frame)
        if len(held) == CHUNK:
            yield transform.frames(as_batch(np.stack(held), device))
            held = []
    if held:
        yield transform.frames(as_batch(np.stack(held), device))


def _flows(frames: Iterator[tuple[int, float, np.ndarray]], networks: Networks, device: torch.device) -> Iterator[torch.Tensor]:
    """Chunks of what the motion part sees, `(n, 3, size, size)`, through float16 as in training."""
    config = networks.flow
    for flow in flow_stream(frames, config, device):
        small = resized(flow.to(device), networks.model.image_size).half().float()
        yield encode_flow(small, config.encoding, config.clip_px)


def _probabilities(networks: Networks, reader: VideoReader, numbers: np.ndarray, device: torch.device, tick: "_Shared") -> np.ndarray:
    found = [np.zeros(0)]
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        logits = networks.semantic(networks.features(as_batch(reader.get(part), device)))
        found.append(logits.sigmoid().double().cpu().numpy())
        tick(len(part))
    return np.concatenate(found)


def _nearest(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the nearest of `known` (increasing) for each of `wanted`, the earlier of two."""
    if len(known) < 2:
        return np.zeros(len(wanted), np.int64)
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    return np.where(wanted - known[right - 1] <= known[right] - wanted, right - 1, right)


class _Shared:
    """Turns frames counted in several passes over a video into frames of the video."""

    def __init__(self, progress: Callable[[int], None] | None, passes: int):
        self.progress, self.passes = progress, passes
        self.total = self.told = self.since = 0

    def __call__(self, frames: int) -> None:
        self.since += frames
        self.total += frames
        behind = self.total // self.passes
        if self.progress and behind > self.told:
            self.progress(behind - self.told)
            self.told = behind

    def end_of_pass(self) -> None:
        self.since = 0
