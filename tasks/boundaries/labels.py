"""Candidates of a video, the windows around them, and their targets. Pure functions of frame times; nothing here opens a video.

Frames are numbered and timed as `tasks.core.video.reader` does; boundaries are presentation times on the same clock as `pts`.
"""

import numpy as np

from tasks.boundaries.config import LabelConfig, WindowConfig
from tasks.core.clips.clips import nearest
from tasks.core.video.reader import frames_shown_at

_GRACE_S = 1e-6


def candidates(pts: np.ndarray, window: WindowConfig, low: int = 0, high: int | None = None, offset: float = 0.0) -> np.ndarray:
    """Frames that may be boundaries: one every stride, in frames or in seconds.

    Args:
        pts: (n,) presentation times, seconds, increasing.
        low, high: the part [low, high) of the video that counts.
        offset: in [0, 1), where the first candidate lies, as a share of the stride.

    Returns:
        (N,) int64 frame numbers, increasing; at least one.
    """
    high = len(pts) if high is None else high
    if window.stride_s is None:
        return np.arange(min(low + int(offset * window.stride_frames), high - 1), high, window.stride_frames, dtype=np.int64)
    first = min(pts[low] + offset * window.stride_s, pts[high - 1])
    return np.unique(nearest(pts, np.arange(first, pts[high - 1] + _GRACE_S, window.stride_s), low, high))


def windows(pts: np.ndarray, chosen: np.ndarray, window: WindowConfig, low: int = 0, high: int | None = None) -> np.ndarray:
    """The frames around each candidate: W before it and W after it, a stride apart, clamped to the part [low, high).

    Args:
        chosen: (N,) frame numbers.

    Returns:
        (N, 2 W) int64 frame numbers in order of time; the candidate itself is left out (thesis section 3.4.1).
    """
    high = len(pts) if high is None else high
    steps = np.concatenate([np.arange(-window.before, 0), np.arange(1, window.before + 1)])
    if window.stride_s is None:
        return np.clip(chosen[:, None] + window.stride_frames * steps, low, high - 1)
    return nearest(pts, pts[chosen][:, None] + window.stride_s * steps, low, high)


def hard_labels(pts: np.ndarray, chosen: np.ndarray, boundaries: np.ndarray, width_s: float) -> np.ndarray:
    """Whether each candidate lies within half of `width_s` of a boundary; (N,) bool.

    Args:
        boundaries: (M,) presentation times, seconds.
    """
    far = np.abs(pts[chosen][:, None] - boundaries[None])
    return (far <= width_s / 2 + _GRACE_S).any(1)


def soft_labels(pts: np.ndarray, chosen: np.ndarray, boundaries: np.ndarray, label: LabelConfig, window: WindowConfig) -> np.ndarray:
    """Sum of Gaussians around the boundaries, cut at 1; (N,) float64 in [0, 1].

    In frames (or candidates) a boundary stands at the frame on screen at its time.
    """
    seconds = pts[chosen][:, None] - boundaries[None]
    frames = chosen[:, None] - frames_shown_at(pts, boundaries)[None]
    match label.soft_unit:
        case "seconds":
            far = seconds
        case "frames":
            far = frames
        case "candidates":
            far = seconds / window.stride_s if window.stride_s else frames / window.stride_frames
    return np.minimum(np.exp(-0.5 * (far / label.sigma) ** 2).sum(1), 1.0)


def targets(pts: np.ndarray, chosen: np.ndarray, boundaries: np.ndarray, label: LabelConfig, window: WindowConfig) -> np.ndarray:
    """What the classifier is to say about each candidate; (N,) float32 in [0, 1]."""
    if label.kind == "soft":
        return soft_labels(pts, chosen, boundaries, label, window).astype(np.float32)
    return hard_labels(pts, chosen, boundaries, label.width_s).astype(np.float32)


def best_rater(consistency: list[float]) -> int:
    """The rater who agrees most with the others, the first of equals (thesis section 3.4.1)."""
    return int(np.argmax(consistency)) if consistency else 0
