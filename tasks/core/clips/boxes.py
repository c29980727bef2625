"""Boxes of the frames of a clip through crops, flips and RandAugment, as numpy on the CPU.

A box is `(x1, y1, x2, y2)` in px, x2 and y2 exclusive, so that a box of the whole picture is `(0, 0, width, height)`. Four zeros stand for
a frame without a box.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.core.clips.augment_ops import sample_generator

_STREAM = 3  # of random numbers: where a box is put
_LEAST_PX = 1e-3


def inside(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """What of boxes lies in a picture; zeros where nothing does, and for boxes that are empty or not numbers.

    Args:
        boxes: `(T, 4)` px.
        height: of the picture, px.
        width: of the picture, px.

    Returns:
        `(T, 4)` float64.
    """
    boxes = np.nan_to_num(np.asarray(boxes, np.float64), nan=0.0)
    found = np.clip(boxes, 0, (width, height, width, height))
    found[~has_box(found)] = 0
    return found


def has_box(boxes: np.ndarray) -> np.ndarray:
    """`(..., 4)` to `(...)` bool: whether there is a box, of some area."""
    return (boxes[..., 2] - boxes[..., 0] > _LEAST_PX) & (boxes[..., 3] - boxes[..., 1] > _LEAST_PX)


def cut(boxes: np.ndarray, crop: Sequence[float], side: int) -> np.ndarray:
    """Boxes in a part of the picture that is resized to a square.

    Args:
        boxes: `(T, 4)` px of the picture.
        crop: top, left, height and width of the part, px.
        side: of the square, px.

    Returns:
        `(T, 4)` px of the square; zeros for what lies outside of it.
    """
    top, left, height, width = crop
    scale = np.array([side / width, side / height] * 2)
    return inside(np.where(has_box(boxes)[:, None], (boxes - (left, top, left, top)) * scale, 0), side, side)


def mirrored(boxes: np.ndarray, width: float) -> np.ndarray:
    """Boxes `(T, 4)` of pictures that are mirrored left to right."""
    found = boxes.copy()
    found[:, 0], found[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return np.where(has_box(boxes)[:, None], found, 0)


def warped(boxes: np.ndarray, matrices: Sequence[np.ndarray], side: int) -> np.ndarray:
    """The boxes around boxes that affine maps have turned and sheared, one map after the other.

    Args:
        boxes: `(T, 4)` px.
        matrices: `(2, 3)` each, from a place to where the picture shows it afterwards. What one map moves out of the picture the next one
            does not bring back.
        side: of the square pictures, px.

    Returns:
        `(T, 4)` px.
    """
    found = np.zeros((len(boxes), 4))
    for row, box, there in zip(found, boxes, has_box(boxes), strict=True):
        x1, y1, x2, y2 = box
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)] if there else []
        for matrix in matrices:
            corners = _in_square([tuple(matrix[:, :2] @ corner + matrix[:, 2]) for corner in corners], side)
        if corners:
            row[:2], row[2:] = np.min(corners, axis=0), np.max(corners, axis=0)
    return inside(found, side, side)


def _in_square(corners: list[tuple[float, float]], side: float) -> list[tuple[float, float]]:
    """The part of a convex polygon that lies in a square at the origin (Sutherland and Hodgman 1974)."""
    for axis, sign, limit in ((0, 1, 0.0), (1, 1, 0.0), (0, -1, -side), (1, -1, -side)):
        kept = []
        for number, here in enumerate(corners):
            before = corners[number - 1]
            a, b = sign * before[axis] - limit, sign * here[axis] - limit
            if (a < 0) != (b < 0):
                share = a / (a - b)
                kept.append(tuple(p + share * (q - p) for p, q in zip(before, here, strict=True)))
            if b >= 0:
                kept.append(here)
        corners = kept
    return corners


def moved_at_random(boxes: np.ndarray, side: int, seed: int, view: int = 0) -> np.ndarray:
    """The boxes of a clip moved together to a uniformly random place: as large as they were, and moving as they did.

    Args:
        boxes: `(T, 4)` px.
        side: of the square pictures, px.
        seed: of the clip.
        view: number of the view, each of which gets another place.

    Returns:
        `(T, 4)` px, inside the picture.
    """
    there = has_box(boxes)
    if not there.any():
        return boxes
    low, high = boxes[there, :2].min(0), boxes[there, 2:].max(0)
    corner = sample_generator(seed, _STREAM).random((view + 1, 2))[view] * (side - (high - low))
    return np.where(there[:, None], boxes + np.tile(corner - low, 2), 0)


def as_controlled(views: list[np.ndarray], batch: dict[str, Any], side: int) -> Tensor:
    """Boxes of views as a network gets them: at random places where the batch says so.

    Args:
        views: boxes `(T, 4)` of every view, the views of a clip neighbours.
        batch: `boxes` (N, T, 4), perhaps `box_control` and then `seed` (N,).
        side: of the views, px.

    Returns:
        `(views, T, 4)` float32 on the CPU.
    """
    found = np.stack(views) if views else np.zeros((0, *batch["boxes"].shape[1:]))
    if views and batch.get("box_control") == "random":
        seeds, each = batch["seed"].tolist(), len(views) // len(batch["boxes"])
        found = np.stack([moved_at_random(boxes, side, seeds[n // each], n % each) for n, boxes in enumerate(found)])
    return torch.from_numpy(found).float()
