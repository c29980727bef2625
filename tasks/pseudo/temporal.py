"""Temporal pseudo-anomalies: patches of optical flow mixed with patches from elsewhere in the same field (thesis, section 4.2, eq. 4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.pseudo.config import TemporalConfig
from tasks.pseudo.masks import Box


@dataclass(frozen=True)
class Mixed:
    """What was done to one flow field.

    Attributes:
        flow: `(2, H, W)` float32, px.
        weight: lambda, the share of the field's own patch.
        source: where the other patch came from.
    """

    flow: np.ndarray
    weight: float
    source: Box


def mix(flow: np.ndarray, box: Box, source: Box, weight: float) -> np.ndarray:
    """`flow` with `flow[box] <- weight flow[box] + (1 - weight) flow[source]`, everything else bit-equal; `(2, H, W)`, a copy.

    The patch at `source` is the one before mixing, so the two may overlap.
    """
    (x1, y1, x2, y2), (sx1, sy1, sx2, sy2) = box, source
    mixed = flow.copy()
    own, other = flow[:, y1:y2, x1:x2], flow[:, sy1:sy2, sx1:sx2]
    mixed[:, y1:y2, x1:x2] = own if weight == 1 else weight * own + (1 - weight) * other
    return mixed


class FlowMixup:
    """Mixes the flow fields of one video.

    The thesis does not say for how long a weight and a place hold. Here a segment of `segment_frames` shares one weight and one relative
    place; the box is that of each frame's own mask, and the other patch has its size and moves with the room that is left.

    Args:
        seed: entropy of the draws of this video, a list of non-negative integers.
    """

    def __init__(self, config: TemporalConfig, seed: Sequence[int]):
        self.config, self.seed = config, list(seed)

    def __call__(self, frame: int, flow: np.ndarray, box: Box) -> Mixed:
        """The field from frame `frame` to the next, `(2, H, W)` px, mixed inside `box`."""
        weight, across, down = self.draw(frame)
        source = place(flow.shape[1], flow.shape[2], box, across, down)
        return Mixed(mix(flow, box, source, weight), weight, source)

    def draw(self, frame: int) -> tuple[float, float, float]:
        """(lambda in [0, 1], place across and down in [0, 1)) for a frame."""
        rng = np.random.default_rng([*self.seed, frame if self.config.per_frame else frame // self.config.segment_frames])
        return float(rng.beta(self.config.alpha, self.config.alpha)), *rng.random(2).tolist()


def place(height: int, width: int, box: Box, across: float, down: float) -> Box:
    """A box of the size of `box` inside the frame; `across` and `down` in [0, 1) run over all places it can take."""
    x1, y1, x2, y2 = box
    left, top = int(across * (width - (x2 - x1) + 1)), int(down * (height - (y2 - y1) + 1))
    return left, top, left + x2 - x1, top + y2 - y1
