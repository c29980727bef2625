"""Flow as 8-bit pictures, (H, W, 3) uint8: red is u, green is v, blue is constant; and the flow of any frames of a video as such pictures.

A flow of f px is the level round((f + bound) 255 / (2 bound)), clipped to 0..255, so that a level is 40 / 255 = 0.157 px at a bound of 20;
rest lies between two levels and is written as 128, as is the blue channel. This is the form in which MemDPC and CoCLR (Han et al. 2020,
public code) store flow.

The flow of frame i is the flow from frame i to frame i + gap, in px of the pictures and per gap, not per second. The last `gap` frames
have none and repeat the last one there is; a video of no more than `gap` frames has one flow, from its first to its last frame.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tasks.core.flow.flow import opencv_flow, to_grey
from tasks.core.flow.flow_config import FlowSettings
from tasks.core.flow.tvl1 import tvl1
from tasks.core.video.reader import VideoError, VideoReader

REST = 128
"""The level of no flow."""
SMALLEST_PX = 12
"""OpenCV's DIS takes no smaller side."""
_WINDOW = 64  # flows computed at a time: enough to fill a GPU


def to_levels(flow: Tensor, bound_px: float) -> Tensor:
    """Flow `(...)` float, px, to `(...)` uint8."""
    return ((flow.clamp(-bound_px, bound_px) + bound_px) * (255 / (2 * bound_px))).round().to(torch.uint8)


def to_px(levels: Tensor, bound_px: float) -> Tensor:
    """Levels `(...)`, uint8 or float, back to float32 px, within half a level of what was not clipped."""
    return levels.float() * (2 * bound_px / 255) - bound_px


def n_flows(n_frames: int, gap: int) -> int:
    """How many different flows a video has."""
    return max(1, n_frames - gap)


def flow_of_frames(frames: np.ndarray, n_frames: int, gap: int) -> np.ndarray:
    """Number of the flow of each frame, (T,) int64: its own, or the last there is."""
    return np.minimum(frames, n_flows(n_frames, gap) - 1)


def compute_pictures(reader: VideoReader, frames: np.ndarray, settings: FlowSettings) -> np.ndarray:
    """The flow of these frames, computed on the CPU.

    Args:
        reader: an open video.
        frames: `(T,)` frame numbers.
        settings: how.

    Returns:
        `(T, h, w, 3)` uint8.

    Raises:
        VideoError: the frames cannot be decoded, or are too small.
        UsageError: OpenCV is not installed.
    """
    flows, back = np.unique(flow_of_frames(frames, reader.n_frames, settings.gap_frames), return_inverse=True)
    ends = np.minimum(flows + settings.gap_frames, reader.n_frames - 1)
    numbers, places = np.unique(np.concatenate((flows, ends)), return_inverse=True)
    images = reader.get(numbers, settings.short_side)
    first, second = images[places.reshape(2, -1)]
    return _pictures(first, second, settings, "cpu", reader.path)[back]


def stream_pictures(reader: VideoReader, settings: FlowSettings, device: torch.device | str = "cpu") -> Iterator[np.ndarray]:
    """All different flows of a video in order, in bounded memory: parts `(k, h, w, 3)` uint8.

    Raises:
        VideoError: the frames cannot be decoded, or are too small.
        UsageError: OpenCV is not installed.
    """
    gap = min(settings.gap_frames, reader.n_frames - 1)
    held: list[np.ndarray] = []
    for number, _, image in reader.frames(short_side=settings.short_side):
        held.append(image)
        if len(held) == _WINDOW + gap or number == reader.n_frames - 1:
            yield _pictures(held[: len(held) - gap], held[gap:], settings, device, reader.path)
            held = held[len(held) - gap :]


def _pictures(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], settings: FlowSettings, device: torch.device | str, path: str
) -> np.ndarray:
    """Pictures of the flow from each first to each second frame, (H, W, 3) uint8 each."""
    height, width = first[0].shape[:2]
    if min(height, width) < SMALLEST_PX:
        raise VideoError(path, f"its frames of {width}x{height} px are too small for optical flow")
    before, after = (to_grey(torch.from_numpy(np.stack(frames)).to(device)) for frames in (first, second))
    flow = tvl1(before, after) if settings.method == "tvl1" else _one_threaded_dis(before, after)
    pictures = torch.full((len(before), height, width, 3), REST, dtype=torch.uint8)
    pictures[..., :2] = to_levels(flow, settings.bound_px).cpu().permute(0, 2, 3, 1)
    return pictures.numpy()


def _one_threaded_dis(before: Tensor, after: Tensor) -> Tensor:
    """DIS on one thread: several videos are worked on at a time, and OpenCV may cut pictures into as many parts as it has threads."""
    try:
        import cv2
    except ImportError:
        return opencv_flow(before, after, "dis")  # says which package is missing
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return opencv_flow(before, after, "dis")
    finally:
        cv2.setNumThreads(threads)
