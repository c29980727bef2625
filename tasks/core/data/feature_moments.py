"""Mean and deviation of features over a training set."""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from tasks.core.data.feature_files import FeatureError
from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Row


def channel_moments(folder: FeatureFolder, paths: Iterable[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """(d,) float32 mean and standard deviation of each channel over all features of these videos; None where none can be read."""
    total, squares, count = 0.0, 0.0, 0
    for path in paths:
        with suppress(FeatureError):
            values = folder.of(Row(path)).values.astype(np.float64)
            total, squares, count = total + values.sum(0), squares + np.square(values).sum(0), count + len(values)
    if not count:
        return None
    mean = total / count
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / count - mean**2, 0)).astype(np.float32)
