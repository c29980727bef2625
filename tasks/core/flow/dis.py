"""Fast optical flow on the CPU through OpenCV, for what needs motion but no exact flow. Imports neither torch nor, before use, cv2."""

from typing import Any, Literal

import numpy as np

from tasks.core.errors import UsageError


class DisFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) of one pair after the other, by one of OpenCV's presets, in one thread.

    Args:
        preset: `fast`, or `medium`, which is finer and takes about twice as long.
    """

    def __init__(self, preset: Literal["fast", "medium"] = "fast"):
        try:
            import cv2
        except ImportError:
            raise UsageError("optical flow needs OpenCV", "pip install opencv-contrib-python-headless") from None
        cv2.setNumThreads(1)  # several videos are worked on at a time
        self._solver: Any = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow from `first` to `second`, (H, W) uint8 each -> (H, W, 2) float32 px, (x, y)."""
        return self._solver.calc(first, second, None)
