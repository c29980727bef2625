"""Rows of frames with captions: what a masked autoencoder saw, hid and made of it."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP, _MARGIN, _FONT = 2, 8, 13


def heatmap(
    values: np.ndarray, size: int | tuple[int, int], low: float | None = None, high: float | None = None, palette: str = "inferno"
) -> np.ndarray:
    """Numbers on a grid of tokens as colours.

    Args:
        values: (T, h, w) float; what is not finite becomes grey.
        size: side, or (height, width), of the frames that come out, px; each value fills its cell, without smoothing.
        low, high: values at the ends of the palette; by default the smallest and largest of the whole clip.
        palette: a matplotlib colour map.

    Returns:
        uint8 (T, H, W, 3).
    """
    import matplotlib

    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    low = values[finite].min(initial=np.inf) if low is None else low
    high = values[finite].max(initial=-np.inf) if high is None else high
    span = high - low if high > low else 1.0
    unit = np.where(finite, (np.where(finite, values, 0) - (low if np.isfinite(low) else 0)) / span, 0)
    colors = (matplotlib.colormaps[palette](np.clip(unit, 0, 1))[..., :3] * 255).round().astype(np.uint8)
    colors[~finite] = 128
    return _enlarge(colors, size)


def overlay_mask(frames: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = (128, 128, 128)) -> np.ndarray:
    """Frames with the masked tokens painted over.

    Args:
        frames: uint8 (T, H, W, 3).
        mask: bool (t, h, w), True where masked; t divides T (a tubelet spans several frames).
        color: paint.

    Returns:
        uint8 (T, H, W, 3), a new array.
    """
    hidden = _enlarge(_stretch(np.asarray(mask, dtype=bool), len(frames)), frames.shape[1:3])
    return np.where(hidden[..., None], np.array(color, dtype=np.uint8), frames)


def outline(frames: np.ndarray, boxes: np.ndarray, color: tuple[int, int, int] = (255, 64, 64)) -> np.ndarray:
    """Frames with the border of a box drawn inside of it, a hundredth of the height thick, at least 1 px.

    Args:
        frames: uint8 (T, H, W, 3).
        boxes: (T, 4) x1, y1, x2, y2, px; nothing is drawn where x2 <= x1 or y2 <= y1.
        color: paint.

    Returns:
        uint8 (T, H, W, 3), a new array.
    """
    drawn, thick = frames.copy(), max(1, frames.shape[1] // 100)
    for frame, original, (x1, y1, x2, y2) in zip(drawn, frames, np.rint(boxes).astype(int).tolist(), strict=True):
        if x2 > x1 and y2 > y1:
            frame[y1:y2, x1:x2] = color
            inner = slice(y1 + thick, y2 - thick), slice(x1 + thick, x2 - thick)
            frame[inner] = original[inner]
    return drawn


def tile(rows: Sequence[tuple[str, np.ndarray]], columns: int = 8, frame_px: int = 96) -> bytes:
    """Several clips below each other, time from left to right, as in figure 5.4 of the TATS thesis.

    Args:
        rows: (caption, uint8 (T, H, W, 3)); a row with fewer frames than the longest (one per tubelet) must divide it and is stretched in
            time. A caption may have several lines.
        columns: frames shown per row, evenly spread over the clip from its first to its last.
        frame_px: about the width of one frame in the picture: small frames are enlarged by a whole factor, large ones shrunk.

    Returns:
        PNG bytes.

    Raises:
        ValueError: no rows, or rows whose numbers of frames do not fit.
    """
    if not rows:
        raise ValueError("there is nothing to tile")
    from PIL import Image as pillow
    from PIL import ImageDraw, ImageFont

    length = max(len(frames) for _, frames in rows)
    picks = np.unique(np.linspace(0, length - 1, min(columns, length)).round().astype(int))
    font = ImageFont.load_default(_FONT)
    captions = [caption for caption, _ in rows]
    left = 2 * _MARGIN + round(max(font.getlength(line) for caption in captions for line in (caption.split("\n"))))
    strips = [[_fit(frame, frame_px) for frame in _stretch(frames, length)[picks]] for _, frames in rows]
    heights = [strip[0].height for strip in strips]
    step = max(strip[0].width for strip in strips) + _GAP
    width = left + len(picks) * step + _MARGIN
    sheet = pillow.new("RGB", (width, sum(heights) + _GAP * len(rows) + 2 * _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN
    for caption, strip, height in zip(captions, strips, heights, strict=True):
        draw.multiline_text((_MARGIN, y + height / 2), caption, fill=(28, 33, 39), font=font, anchor="lm")
        for column, frame in enumerate(strip):
            sheet.paste(frame, (left + column * step, y))
        y += height + _GAP
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _stretch(clip: np.ndarray, frames: int) -> np.ndarray:
    """Repeat each step of `clip` so that it spans `frames` frames."""
    if not len(clip) or frames % len(clip):
        raise ValueError(f"{len(clip)} steps do not divide {frames} frames")
    return np.repeat(clip, frames // len(clip), axis=0)


def _enlarge(grid: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resize of the two axes after time."""
    height, width = (size, size) if isinstance(size, int) else size
    rows = np.arange(height) * grid.shape[1] // height
    columns = np.arange(width) * grid.shape[2] // width
    return grid[:, rows][:, :, columns]


def _fit(frame: np.ndarray, target: int) -> "Image":
    from PIL import Image as pillow

    image = pillow.fromarray(np.ascontiguousarray(frame))
    if image.width > target:
        return image.resize((target, max(1, round(target * image.height / image.width))), pillow.Resampling.LANCZOS)
    factor = max(1, round(target / image.width))
    return image.resize((image.width * factor, image.height * factor), pillow.Resampling.NEAREST)
