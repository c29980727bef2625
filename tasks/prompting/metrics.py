"""The numbers that the paper reports."""

import math

import numpy as np

from tasks.core.metrics.classification import summarize


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`top1`, `top5`, `avg`, the mean of these two, and `mean_class`, percent, of `(n, C)` and `(n,)`."""
    found = summarize(probabilities, labels)
    return {"top1": found["top1"], "top5": found["top5"], "avg": (found["top1"] + found["top5"]) / 2, "mean_class": found["mean_class"]}


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean of `(n,)` trials, and half of its 95 % interval, 1.96 standard errors; 0 for one trial."""
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(half)
