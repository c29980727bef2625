"""What the indicators are like on normal footage, kept in the model for fusion in standard deviations and for `global_minmax`."""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from tasks.anomalies.footage import Footage
from tasks.anomalies.score import RAW, Calibration
from tasks.anomalies.stream import Networks, raw_scores
from tasks.core.clips.config import DataConfig
from tasks.core.errors import InputError
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

VIDEOS = 8
WINDOWS = 500
"""At most about so many of each, spread over the footage."""


def stretches(footage: list[Footage], length: int) -> list[Footage]:
    """Some of the videos, of each no more of its middle than its share of windows of `length` frames next to each other covers."""
    chosen = [footage[i] for i in np.unique(np.linspace(0, len(footage) - 1, min(VIDEOS, len(footage))).round().astype(int))]
    most = max(1, WINDOWS // len(chosen)) * length
    cut = []
    for item in chosen:
        spare = max(0, item.high - item.low - most)
        cut.append(replace(item, low=item.low + spare // 2, high=item.high - (spare - spare // 2)))
    return cut


def calibrate(
    networks: Networks, footage: list[Footage], data: DataConfig, progress: Callable[[int], None] = lambda n: None
) -> dict[str, dict[str, float]]:
    """Part -> mean, std, low and high of `score.RAW` over about `WINDOWS` scored frames of normal videos; those that cannot be read are
    passed over.

    Args:
        footage: of `stretches`.
        progress: called with the number of further frames that are behind; may raise.

    Raises:
        InputError: none of them can be read.
    """
    stride = max(1, sum(len(item.starts(networks.model.frames)) for item in footage) // WINDOWS)
    found: dict[str, list[np.ndarray]] = {part: [] for part in networks.parts}
    reasons = []
    for item in footage:
        try:
            with open_video(item.path, data.decoder) as reader:
                raw = raw_scores(
                    networks, reader, item.low, item.high, short_side=data.short_side, edges="drop", stride=stride, progress=progress
                )
        except VideoError as error:
            reasons.append(f"{item.path}: {error.reason}")
            continue
        for part, values in raw.values.items():
            found[part].append(RAW[part](values))
    joined = {part: np.concatenate([np.zeros(0), *values]) for part, values in found.items()}
    if empty := [part for part, values in joined.items() if not len(values)]:
        why = f"; {reasons[0]}" if reasons else ""
        raise InputError(
            f"no normal video gives {empty[0]} a score to calibrate on{why}", "mend the videos, then run the same command again"
        )
    return {part: asdict(Calibration.of(values)) for part, values in joined.items()}
