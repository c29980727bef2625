"""Class probabilities of videos as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.core.files import replacing


def write_probabilities(path: Path, videos: Sequence[str], truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> None:
    """CSV `path,label,predicted,<one probability per class>`.

    Args:
        path: the file, replaced whole.
        videos: n.
        truth: (n,) numbers of classes; below 0: not known.
        probabilities: (n, classes).
        labels: names of the classes.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", *labels])
        for name, label, scores in zip(videos, truth, probabilities, strict=True):
            known = labels[label] if label >= 0 else ""
            writer.writerow([name, known, labels[int(scores.argmax())], *(f"{s:.6f}" for s in scores)])
