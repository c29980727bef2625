"""From reconstruction errors to anomaly scores: equations 4.6 to 4.10 of the thesis, and which frame of a window they are for.

The thesis scores the ninth frame (index 8) of windows of 16 frames; it calls the windows non-overlapping, which would score one frame in
16. As in the public code it builds on, windows are one frame apart here. The first 8 and last 7 frames of a video then have no window of
their own; `edges: pad` repeats the first and last frame to make one, `edges: drop` leaves these frames out, as in published numbers.
"""

from dataclasses import dataclass

import numpy as np

SCORED = 8
"""Index of the scored frame in a window of 16; the middle of windows of other lengths."""


def scored_index(length: int) -> int:
    """Index in a window of `length` frames of the frame it scores."""
    return length * SCORED // 16


def scored_frames(n_frames: int, length: int = 16, edges: str = "drop") -> slice:
    """Frames of a video that get a score: `[8 : n - 7]` for windows of 16 with `edges: drop`, else all."""
    if edges == "pad":
        return slice(0, n_frames)
    before = scored_index(length)
    return slice(before, max(before, n_frames - (length - 1 - before)))


def psnr(error: np.ndarray) -> np.ndarray:
    """Equation 4.7 with M = 1, which the min-max of omega_1 cancels: `10 log10(1 / error)`, dB.

    Args:
        error: mean squared error per frame; 0 counts as the smallest positive float32.
    """
    error = np.maximum(np.asarray(error, np.float64), np.finfo(np.float32).tiny)
    return -10 * np.log10(error)


def min_max(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Values from [low, high], by default their own range, to [0, 1]; zeros where the range is empty."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return values
    low = values.min() if low is None else low
    high = values.max() if high is None else high
    if not high > low:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def omega_1(error: np.ndarray) -> np.ndarray:
    """Equation 4.8 over one video: 0 for the frame that was reconstructed best, 1 for the worst; zeros where all are alike."""
    quality = psnr(error)
    return 1 - min_max(quality) if len(quality) and quality.max() > quality.min() else np.zeros_like(quality)


@dataclass(frozen=True)
class Calibration:
    """What an indicator is like on normal footage: mean, standard deviation, smallest and largest value."""

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Calibration":
        """Of one or more values."""
        return cls(*(float(value) for value in (values.mean(), values.std(), values.min(), values.max())))

    def deviations(self, values: np.ndarray) -> np.ndarray:
        """How many standard deviations above the mean."""
        return (np.asarray(values, np.float64) - self.mean) / max(self.std, 1e-12)


RAW = {
    "appearance": lambda values: -psnr(values),
    "motion": lambda values: np.asarray(values, np.float64),
    "semantic": lambda values: np.asarray(values, np.float64),
}
"""Part -> what is calibrated, higher for more anomalous: minus PSNR, mean squared error of the flow, omega_3."""


def parts_of(values: dict[str, np.ndarray], fusion: str, omega2_norm: str, known: dict[str, Calibration]) -> dict[str, np.ndarray]:
    """Indicators of one video from what the networks gave.

    Args:
        values: part -> (N,): mean squared errors of `appearance` and `motion`, probability of `semantic` (omega_3).
        fusion: `paper`: omega_1, omega_2, omega_3; `standard`: each as standard deviations above normal footage.
        omega2_norm: `none`, equation 4.9 as printed; `per_video_minmax`; `global_minmax`, over normal footage, so that more than 1 is
            possible. The thesis calls omega_2 normalised, and means by the number of pixels only.
        known: calibration of every part; used by `standard` and `global_minmax`.

    Returns:
        part -> (N,) float64.
    """
    if fusion == "standard":
        return {part: known[part].deviations(RAW[part](array)) for part, array in values.items()}
    made = {}
    for part, array in values.items():
        if part == "appearance":
            made[part] = omega_1(array)
        elif part == "motion" and omega2_norm != "none":
            own = omega2_norm == "per_video_minmax"
            made[part] = min_max(array) if own else min_max(array, known[part].low, known[part].high)
        else:
            made[part] = np.asarray(array, np.float64)
    return made


def fuse(parts: dict[str, np.ndarray], weights: dict[str, float]) -> np.ndarray:
    """Equations 4.6 and 4.10: the weighted sum. Weights of missing parts are spread over the others, which changes no AUC.

    Raises:
        ValueError: every part that is there has weight 0.
    """
    total = sum(weights[part] for part in parts)
    if total <= 0:
        raise ValueError(f"the weights of {', '.join(parts)} are all 0")
    return sum(weights[part] / total * array for part, array in parts.items())


def heat_levels(cells: np.ndarray) -> np.ndarray:
    """Where each frame differs from what is usual in this video, `(N, h, w)` uint8, 255 the most.

    Some places are always reconstructed badly (edges, texture): each cell counts above its median over the video.

    Args:
        cells: `(N, h, w)` float, mean squared error per cell.
    """
    if not len(cells):
        return np.zeros(cells.shape, np.uint8)
    above = np.sqrt(np.maximum(cells - np.median(cells, axis=0), 0, dtype=np.float32))
    return (above * (255 / max(float(above.max()), 1e-12))).round().astype(np.uint8)
