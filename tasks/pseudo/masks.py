"""Where a frame is changed: random strokes and boxes, or one of the objects of the frame.

The random masks follow the facts of LaMa (Suvorov et al., WACV 2022) as the thesis uses it: strokes are 1..10 polylines of up to 5
segments, each 10-70 px long and 5-25 px wide; boxes are 1..3 rectangles of 30-100 px that stay 10 px away from the border. These sizes
are for LaMa's pictures of 256 px and are scaled with the short side of others. (LaMa's own ranges begin at 0; a mask without a hole would
not be an anomaly.)
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

REFERENCE_PX = 256
_POLYLINES, _SEGMENTS, _LENGTH_PX, _WIDTH_PX = (1, 10), (1, 5), (10, 70), (5, 25)
_BOXES, _SIDE_PX, _MARGIN_PX = (1, 3), (30, 100), 10
_GROW_PX = 2

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in px; x2 and y2 lie just outside."""


def random_mask(height: int, width: int, rng: np.random.Generator, scale_px: int | None = None) -> np.ndarray:
    """Strokes or boxes, as likely as each other.

    Args:
        scale_px: the short side to which the sizes belong; None: that of this picture.

    Returns:
        `(height, width)` bool, True = hole; never empty.
    """
    scale = (scale_px or min(height, width)) / REFERENCE_PX
    return (strokes if rng.random() < 0.5 else rectangles)(height, width, rng, scale)


def strokes(height: int, width: int, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Thick polylines that turn at random; `(height, width)` bool."""
    image = Image.new("1", (width, height))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(*_POLYLINES, endpoint=True)):
        x, y = rng.uniform(0, (width, height))
        thick = max(1, round(scale * rng.uniform(*_WIDTH_PX)))
        for _ in range(rng.integers(*_SEGMENTS, endpoint=True)):
            angle, length = rng.uniform(0, 2 * math.pi), scale * rng.uniform(*_LENGTH_PX)
            start = (x, y)
            x = float(np.clip(x + length * math.cos(angle), 0, width - 1))
            y = float(np.clip(y + length * math.sin(angle), 0, height - 1))
            pen.line((*start, x, y), fill=1, width=thick)
            for cx, cy in (start, (x, y)):  # round ends, so that turns have no notches
                pen.ellipse((cx - thick / 2, cy - thick / 2, cx + thick / 2, cy + thick / 2), fill=1)
    return np.asarray(image, bool)


def rectangles(height: int, width: int, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Boxes away from the border; `(height, width)` bool."""
    mask = np.zeros((height, width), bool)
    margin = min(round(scale * _MARGIN_PX), (min(height, width) - 1) // 4)
    for _ in range(rng.integers(*_BOXES, endpoint=True)):
        sides = [int(np.clip(round(scale * rng.uniform(*_SIDE_PX)), 1, side - 2 * margin)) for side in (height, width)]
        y, x = (int(rng.integers(margin, side - margin - own, endpoint=True)) for side, own in zip((height, width), sides, strict=True))
        mask[y : y + sides[0], x : x + sides[1]] = True
    return mask


def rectangle_of(mask: np.ndarray) -> Box:
    """The smallest rectangle that covers the True pixels of `(H, W)`; ValueError where there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("an empty mask has no rectangle")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def fill_box(height: int, width: int, box: Sequence[float]) -> np.ndarray:
    """`(height, width)` bool: the pixels that a box x1 y1 x2 y2 touches; it may reach out of the frame."""
    x1, y1, x2, y2 = box
    mask = np.zeros((height, width), bool)
    mask[max(0, math.floor(y1)) : max(0, math.ceil(y2)), max(0, math.floor(x1)) : max(0, math.ceil(x2))] = True
    return mask


def moving_regions(flow: np.ndarray, max_area: float) -> list[np.ndarray]:
    """Connected regions that move.

    A pixel moves where its flow differs from the frame's median flow (a camera that pans) by more than 0.5 px and by more than twice the
    frame's root mean square difference. Regions are grown by `_GROW_PX`, for the flow is smooth and what moves is larger than what is sure
    to move. Regions below 1/2000 of the frame count as noise, those above `max_area` as the whole scene.

    Args:
        flow: `(2, H, W)` float32, px.

    Returns:
        `(H, W)` bool masks, largest first.
    """
    from scipy import ndimage

    speed = np.hypot(*(flow - np.median(flow, (1, 2), keepdims=True)))
    moving = speed > max(0.5, 2 * float(np.sqrt(np.mean(speed**2))))
    moving = ndimage.binary_dilation(ndimage.binary_opening(moving), iterations=_GROW_PX)
    labels, n = ndimage.label(moving)
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:] / labels.size
    kept = [number for number in np.argsort(-areas, kind="stable") if 1 / 2000 <= areas[number] <= max_area]
    return [labels == number + 1 for number in kept]


class Chooser:
    """One mask per frame of a video: one of its objects, or a random mask where it has none.

    Args:
        height, width: of the frames.
        seed: entropy of the draws of this video, a list of non-negative integers; frame t draws from (seed, t // hold_frames).
        hold_frames: frames that share a draw: the same random mask, and the object that overlaps most with the last one's.
        kind: what an object is, recorded with its mask.
    """

    def __init__(self, height: int, width: int, seed: Sequence[int], hold_frames: int, kind: str):
        self.height, self.width, self.seed, self.hold, self.kind = height, width, list(seed), hold_frames, kind
        self._last: tuple[int, np.ndarray] | None = None

    def choose(self, frame: int, objects: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, str]:
        """(mask `(H, W)` bool, kind used) of a frame; frames come in order."""
        part = frame // self.hold
        rng = np.random.default_rng([*self.seed, part])
        share = rng.random()  # drawn whether it is used or not: a random mask depends on nothing that was found
        objects = [mask for mask in objects if mask.any()]
        if not objects:
            self._last = None
            return random_mask(self.height, self.width, rng), "random"
        chosen = objects[int(share * len(objects))]
        if self._last is not None and self._last[0] == part:
            overlaps = [np.count_nonzero(mask & self._last[1]) for mask in objects]
            chosen = objects[int(np.argmax(overlaps))] if max(overlaps) else chosen
        self._last = part, chosen
        return chosen, self.kind
