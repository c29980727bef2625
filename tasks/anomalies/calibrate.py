"""What the indicators are like on normal footage, kept in the model for fusion by deviations and for `global_minmax`."""

from dataclasses import asdict

import numpy as np

from tasks.anomalies.footage import Footage
from tasks.anomalies.score import RAW, Calibration
from tasks.anomalies.stream import Networks, raw_scores
from tasks.core.video.config import DataConfig
from tasks.core.video.reader import VideoError, open_video

VIDEOS = 8
WINDOWS = 500
"""At most about so many of each, spread over the footage."""


def calibrate(networks: Networks, footage: list[Footage], data: DataConfig) -> dict[str, dict[str, float]]:
    """Part -> mean, std, low and high of `score.RAW` over scored frames of normal videos; videos that cannot be read are passed over."""
    chosen = [footage[i] for i in np.unique(np.linspace(0, len(footage) - 1, min(VIDEOS, len(footage))).round().astype(int))]
    windows = sum(len(item.starts(networks.model.frames)) for item in chosen)
    found: dict[str, list[np.ndarray]] = {part: [] for part in networks.parts}
    for item in chosen:
        try:
            with open_video(item.path, data.decoder) as reader:
                stride = max(1, windows // WINDOWS)
                raw = raw_scores(networks, reader, item.low, item.high, short_side=data.short_side, edges="drop", stride=stride)
        except VideoError:
            continue
        for part, values in raw.values.items():
            found[part].append(RAW[part](values))
    return {part: asdict(Calibration.of(np.concatenate(values))) for part, values in found.items()}
