"""Made-up detections for the tests of what is written about them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.boundaries.result import Boundary, Detection, Scores


def detection(
    frames: Sequence[int] = (40, 75), n_frames: int = 100, fps: float = 25.0, pts: np.ndarray | None = None, **changes: Any
) -> Detection:
    """A video of `n_frames` whose boundaries lie on `frames`; times are number / fps unless `pts` says otherwise."""
    if pts is None:
        pts = np.arange(n_frames) / fps
    boundaries = [Boundary(float(pts[frame]), int(frame), 0.6 + 0.3 * (i % 2)) for i, frame in enumerate(frames)]
    score = np.full(len(pts), 0.1, dtype=np.float32)
    score[list(frames)] = [boundary.score for boundary in boundaries]
    values = {
        "path": "videos/clip.mp4",
        "method": "training-free",
        "settings": {"threshold": 0.5, "merge": {"rule": "window", "window_s": 1.0}},
        "n_frames": len(pts),
        "fps": fps,
        "duration_s": float(pts[-1] - pts[0] + 1 / fps),
        "start_s": float(pts[0]),
        "file_start_s": float(pts[0]),
        "width": 320,
        "height": 240,
        "scores": Scores(np.asarray(pts, dtype=np.float64), np.arange(len(pts)), score),
        "boundaries": boundaries,
    }
    return Detection(**{**values, **changes})
