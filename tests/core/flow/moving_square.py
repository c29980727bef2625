"""Clips in which it is known what moves: textured squares over a textured background that a camera pans, shakes or zooms over."""

import cv2
import numpy as np


def texture(height: int, width: int, seed: int, grain: int = 8) -> np.ndarray:
    """(H, W, 3) uint8, blobs of about `grain` px."""
    coarse = np.random.default_rng(seed).random((height // grain + 2, width // grain + 2, 3), dtype=np.float32)
    return (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def camera(kind: str, frames: int, seed: int = 0) -> list[tuple[float, float, float]]:
    """(x, y, zoom) of every frame, px: `still`, `pan`, `shake` (by up to 3 px each way), `zoom` (1 % a frame)."""
    rng = np.random.default_rng(seed)
    made = {
        "still": lambda t: (0.0, 0.0, 1.0),
        "pan": lambda t: (-2.0 * t, 1.0 * t, 1.0),
        "shake": lambda t: (*rng.integers(-3, 4, 2).astype(float), 1.0),
        "zoom": lambda t: (0.0, 0.0, 1 + 0.01 * t),
    }[kind]
    return [made(t) for t in range(frames)]


def clip(
    squares: list[tuple[int, int, int, tuple[int, int]]],
    kind: str = "still",
    frames: int = 10,
    height: int = 120,
    width: int = 160,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames, and where each square is.

    Args:
        squares: x and y at the start, side, velocity, all px.
        kind: of `camera`.

    Returns:
        `(T, H, W, 3)` uint8; `(T, n, 4)` float x1, y1, x2, y2.
    """
    ground = texture(2 * height, 2 * width, seed)
    covers = [texture(side, side, seed + 1 + i) for i, (_, _, side, _) in enumerate(squares)]
    made = []
    for x, y, zoom in camera(kind, frames, seed):
        view = np.array([[zoom, 0, width / 2 - zoom * (width + x)], [0, zoom, height / 2 - zoom * (height + y)]], np.float32)
        made.append(cv2.warpAffine(ground, view, (width, height), flags=cv2.INTER_CUBIC))
    boxes = np.array(
        [[(x + u * t, y + v * t, x + u * t + side, y + v * t + side) for x, y, side, (u, v) in squares] for t in range(frames)]
    )
    for picture, now in zip(made, boxes, strict=True):
        for (x1, y1, x2, y2), cover in zip(now.astype(int), covers, strict=True):
            picture[y1:y2, x1:x2] = cover
    return np.stack(made), boxes.astype(np.float64)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes `(..., 4)` pair by pair."""
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clip(0).prod(-1)
    return common / ((first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - common)
