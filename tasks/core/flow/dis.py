"""Fast optical flow on the CPU through OpenCV, for what needs motion but no exact flow. Imports neither torch nor, before use, cv2."""

from typing import Any, Literal

import numpy as np

from tasks.core.errors import UsageError


class DisFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) of one pair after the other, by one of OpenCV's presets, in one thread.

    Args:
        preset: `fast`, `medium`, which is finer and takes about twice as long, or `ultrafast`, which is coarser.
        finest_scale: times that the picture is halved at the finest level; None: as the preset has it. 0 is for very small pictures.
    """

    def __init__(self, preset: Literal["ultrafast", "fast", "medium"] = "fast", finest_scale: int | None = None):
        try:
            import cv2
        except ImportError:
            raise UsageError("optical flow needs OpenCV", "pip install opencv-contrib-python-headless") from None
        cv2.setNumThreads(1)  # several videos are worked on at a time
        self._solver: Any = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
        if finest_scale is not None:
            self._solver.setFinestScale(finest_scale)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow from `first` to `second`, (H, W) uint8 each -> (H, W, 2) float32 px, (x, y)."""
        return self._solver.calc(first, second, None)
