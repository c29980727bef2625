"""From motion maps to boxes: which areas of a frame move, and what a video makes of the boxes of its frames. Needs no torch.

The steps and their numbers are those of the public code of MOFO (Ahmadian et al. 2023), which the paper does not give. `PAPER` differs
where they blow boxes up or let them get stuck; see `Rules`.
"""

from dataclasses import dataclass

import numpy as np

from tasks.core.errors import UsageError

REFERENCE_PX = 240
"""The short side of the frames that the lengths below belong to; they are scaled with it."""
_BORDER_PX, _SMOOTH_PX, _JOIN_PX = 8, 1.0, 30.0
_OF_MAX, _OF_STD = 0.4, 1.5
_FAR = 0.4  # of the diagonal
_UNSTEADY, _PAD, _PADDED_UP_TO = 0.1, 0.05, 0.4
_SHRINK = 4  # a Gaussian this wide loses nothing at a quarter of the size


@dataclass(frozen=True)
class Rules:
    """Where the two modes differ.

    Attributes:
        floor: map values below this are rest.
        level, level_of_max: an area is where the map, smoothed by the wide Gaussian, reaches `level` and this share of its maximum.
        tight: the box holds what moves in the chosen areas; False: the areas themselves, which are wider by the Gaussian's tails.
        largest_side: share of the frame's side above which a box is too large.
        smallest_area: share of the frame's area below which a box is too small.
        memory_frames: the running mean, from which a steady box may not stray, is over so many boxes before it; None: all of them.
    """

    floor: float
    level: float
    level_of_max: float
    tight: bool
    largest_side: float
    smallest_area: float
    memory_frames: int | None


PAPER = Rules(floor=0.05, level=0.0, level_of_max=0.25, tight=True, largest_side=1.0, smallest_area=0.002, memory_frames=8)
CODE = Rules(floor=0.0, level=1.0, level_of_max=0.0, tight=False, largest_side=0.7, smallest_area=0.01, memory_frames=None)


def moving_box(motion: np.ndarray, rules: Rules) -> tuple[float, float, float, float] | None:
    """The box around the two largest moving areas of a frame, or around the largest alone where they are far apart.

    Args:
        motion: `(H, W)` float32 motion map.

    Returns:
        x1, y1, x2, y2 in px of the map, x2 and y2 just outside; None where nothing moves.
    """
    cv2 = _opencv()
    height, width = motion.shape
    scale = min(height, width) / REFERENCE_PX
    moving = _strong(motion, scale, rules)
    if not moving.any():
        return None
    wide = _blurred_widely(moving, _JOIN_PX * scale)
    area = wide >= max(rules.level, rules.level_of_max * float(wide.max()), np.finfo(np.float32).tiny)
    n, labels, stats, centres = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=8)
    if n < 2:
        return None
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:2]
    if len(largest) == 2 and np.hypot(*(centres[largest[0]] - centres[largest[1]])) > _FAR * np.hypot(height, width):
        largest = largest[:1]
    chosen = np.isin(labels, largest)
    if rules.tight:
        chosen &= moving > 0
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _strong(motion: np.ndarray, scale: float, rules: Rules) -> np.ndarray:
    """The map without its border, slightly smoothed, without what is weak beside its maximum and its standard deviation."""
    cv2 = _opencv()
    border = round(_BORDER_PX * scale)
    inner = np.zeros_like(motion)
    middle = (slice(border, motion.shape[0] - border), slice(border, motion.shape[1] - border))
    inner[middle] = motion[middle]
    smooth = cv2.GaussianBlur(inner, (0, 0), _SMOOTH_PX * max(scale, 0.5), borderType=cv2.BORDER_REFLECT)
    smooth[smooth < max(_OF_MAX * float(smooth.max()), rules.floor)] = 0
    smooth[smooth < _OF_STD * float(smooth.std())] = 0
    return smooth


def _blurred_widely(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A wide Gaussian, computed at a quarter of the size."""
    cv2 = _opencv()
    height, width = picture.shape
    small = cv2.resize(picture, (max(1, width // _SHRINK), max(1, height // _SHRINK)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / _SHRINK, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def settle(found: np.ndarray, height: int, width: int, rules: Rules) -> np.ndarray:
    """The boxes of a video: gaps filled, outliers replaced, padded.

    Args:
        found: `(T, 4)` x1, y1, x2, y2 of each frame in px; NaN where nothing moves.
        height, width: of the frames, px.

    Returns:
        `(T, 4)` float32, inside the frame, never empty.
    """
    steady = _steady(_usable(_filled(found, height, width), height, width, rules), rules)
    return _padded(steady, height, width).astype(np.float32)


def central_half(height: int, width: int) -> np.ndarray:
    """The box of a video in which nothing moves: half of the frame's width and height, `(4,)`."""
    return np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4])


def _filled(found: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where nothing moves, the box of the frame before; the central half where there is none."""
    boxes = np.array(found, dtype=np.float64).reshape(-1, 4)
    last = central_half(height, width)
    for box in boxes:
        if np.isnan(box).any():
            box[:] = last
        last = box
    return boxes


def _usable(boxes: np.ndarray, height: int, width: int, rules: Rules) -> np.ndarray:
    """A box that is too large or too small is replaced by the next that is neither; where none follows, the coordinates of a too large one
    are halved, and a too small one becomes the central half.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    large = (sides > rules.largest_side * np.array([width, height])).any(1)
    small = sides.prod(1) < rules.smallest_area * height * width
    made = boxes.copy()
    following = None
    for i in reversed(range(len(boxes))):
        if not (large[i] or small[i]):
            following = boxes[i]
        elif following is not None:
            made[i] = following
        else:
            made[i] = boxes[i] / 2 if large[i] else central_half(height, width)
    return made


def _steady(boxes: np.ndarray, rules: Rules) -> np.ndarray:
    """A box whose corners stray from the mean of those before it is replaced by the one before: mean square above a tenth of its area."""
    made = boxes.copy()
    for i in range(1, len(boxes)):
        first = 0 if rules.memory_frames is None else max(0, i - rules.memory_frames)
        strayed = np.square(boxes[i] - boxes[first:i].mean(0)).mean()
        if strayed > _UNSTEADY * (boxes[i, 2:] - boxes[i, :2]).prod():
            made[i] = made[i - 1]
    return made


def _padded(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """A twentieth more on each side along every axis where a box covers two fifths of the frame at most; within the frame."""
    frame = np.array([width, height], dtype=np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    margin = np.where(sides <= _PADDED_UP_TO * frame, _PAD * sides, 0)
    return np.concatenate((np.maximum(boxes[:, :2] - margin, 0), np.minimum(boxes[:, 2:] + margin, frame)), 1)


def _opencv():
    try:
        import cv2
    except ImportError:
        raise UsageError("motion boxes need OpenCV", "pip install opencv-contrib-python-headless") from None
    return cv2
