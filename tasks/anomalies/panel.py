"""The strip below the picture of an annotated video: what the frame scores, and the scores of the whole video with a cursor."""

import numpy as np

from tasks.anomalies.result import AnomalyDetection
from tasks.core.report.timeline import clock, peaks

FLAGGED = (234, 88, 12)
_PAPER, _INK, _DIM, _CURVE = (20, 24, 29), (227, 231, 236), (120, 130, 142), (109, 179, 242)
_SHADE = (74, 44, 28)
_PARTS = ((105, 219, 124), (218, 119, 242), (255, 212, 59), (102, 217, 232))
_LINE_PX, _MARGIN_PX = 17, 5
_FONT_PX = 12


class Panel:
    """Draws the strip; everything but text and cursor is drawn once.

    Args:
        detection: what was found.
        width: px.
        picture_height: of the picture above, px: the curve takes a fifth of it.

    Attributes:
        height: px, even.
    """

    def __init__(self, detection: AnomalyDetection, width: int, picture_height: int):
        from PIL import Image, ImageDraw, ImageFont

        self.detection, self.width = detection, width
        self._font = ImageFont.load_default(_FONT_PX)
        self._top = 2 * _LINE_PX + _MARGIN_PX
        self._curve_height = max(40, picture_height // 5)
        self.height = self._top + self._curve_height + _MARGIN_PX
        self.height += self.height % 2
        scores, threshold = detection.scores, detection.settings.get("threshold")
        values = np.concatenate([scores.score, *scores.parts.values(), [0.0, 1.0]])
        self._low, self._high = float(values.min()), max(float(values.max()), threshold or 0.0)
        self._still = Image.new("RGB", (width, self.height), _PAPER)
        draw = ImageDraw.Draw(self._still)
        bottom = self._top + self._curve_height
        for interval in detection.intervals:
            left, right = self._x(interval.start_s), self._x(interval.end_s)
            draw.rectangle((left, self._top, max(left, right - 1), bottom), fill=_SHADE)
        draw.line((0, bottom, width, bottom), fill=_DIM)
        if threshold is not None:
            y = self._y(threshold)
            for x in range(0, width, 8):
                draw.line((x, y, x + 3, y), fill=_DIM)
        for colour, part in zip(_PARTS, scores.parts.values(), strict=False):
            self._curve(draw, part, tuple(shade // 2 for shade in colour), 1)
        self._curve(draw, scores.score, _CURVE, 2)

    def draw(self, t: float, number: int, row: int | None, flagged: bool) -> np.ndarray:
        """The strip for the frame `number` at `t` seconds: (height, width, 3) uint8 RGB.

        Args:
            row: of its scores; None: it has none.
            flagged: it lies in an interval.
        """
        from PIL import ImageDraw

        image = self._still.copy()
        draw = ImageDraw.Draw(image)
        scores = self.detection.scores
        text = "no score" if row is None else f"score {scores.score[row]:.2f}"
        x = self._text(draw, _MARGIN_PX, 0, f"{clock(t)}   frame {number}   ", _INK)
        self._text(draw, x, 0, text, FLAGGED if flagged else _CURVE)
        x = _MARGIN_PX
        for place, (name, values) in enumerate(scores.parts.items()):
            value = "–" if row is None else f"{values[row]:.2f}"
            x = self._text(draw, x, 1, f"{name} {value}   ", _PARTS[place % len(_PARTS)])
        x = self._x(t)
        draw.line((x, self._top - 2, x, self.height), fill=_INK)
        return np.asarray(image)

    def _curve(self, draw: object, values: np.ndarray, colour: tuple[int, ...], thick: int) -> None:
        scores = self.detection.scores
        shown = peaks(scores.t, values, self.detection.start_s, max(self.detection.duration_s, 1e-6), self.width)
        points = [(self._x(scores.t[i]), self._y(values[i])) for i in shown]
        draw.line(points, fill=colour, width=thick)

    def _x(self, t: float) -> int:
        share = (t - self.detection.start_s) / max(self.detection.duration_s, 1e-6)
        return int(min(max(share, 0.0), 1.0) * (self.width - 1))

    def _y(self, value: float) -> int:
        share = (value - self._low) / (self._high - self._low)
        return round(self._top + (1 - min(max(share, 0.0), 1.0)) * self._curve_height)

    def _text(self, draw: object, x: float, line: int, text: str, colour: tuple[int, ...]) -> float:
        """Writes in one of the two lines; returns where the text ends."""
        draw.text((x, line * _LINE_PX + 3), text, fill=colour, font=self._font)
        return x + self._font.getlength(text)
