"""A moment of a video as the query: `clip.mp4@12.5`."""

import os
import re
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tasks.core.errors import InputError, UsageError
from tasks.core.towers.config import ExtractConfig
from tasks.core.video.open import open_video
from tasks.prompting.search.build import units


@dataclass(frozen=True)
class Example:
    """What to look for the like of.

    Attributes:
        path: absolute, of the video.
        at_s: seconds; None: the whole video.
    """

    path: str
    at_s: float | None


def read_example(text: str) -> Example:
    """From `PATH` or `PATH@SECONDS` (or `PATH@M:SS`, `PATH@H:MM:SS`). Raises UsageError, or InputError where there is no such file."""
    path, mark, place = text.rpartition("@")
    if not mark or os.path.exists(text):
        path, place = text, ""
    if not os.path.exists(path):
        raise InputError(f"--like {path}: no such video", "PATH or PATH@SECONDS, for example clip.mp4@12.5")
    if not place:
        return Example(os.path.abspath(path), None)
    if not re.fullmatch(r"(?:\d+:){0,2}\d+(?:\.\d*)?", place):
        raise UsageError(f"--like {text}: '{place}' is not a time", "seconds, or minutes:seconds, for example clip.mp4@12.5")
    seconds = 0.0
    for field in place.split(":"):
        seconds = seconds * 60 + float(field)
    return Example(os.path.abspath(path), seconds)


def example_vector(example: Example, reference: str, hop_s: float | None, device: str) -> tuple[np.ndarray, str]:
    """What a model sees in an example.

    Args:
        example: one window around its time; without a time the mean of all windows.
        reference: the model.
        hop_s: of the index.
        device: where it computes.

    Returns:
        (dim,) float32 of length 1; the hash of the model's weights.

    Raises:
        InputError: the video cannot be read, or ends before.
    """
    from tasks.core.towers.extract import Extractor

    one = {} if example.at_s is None else {"batch_size": 1}
    maker = Extractor(ExtractConfig(model=reference, per="window", hop_s=hop_s, device=device, **one))
    with open_video(example.path) as reader:
        if example.at_s is None:
            found = units(maker.features(reader)[0], example.path).mean(0, keepdims=True)
        else:
            last = float(reader.pts[-1])
            if example.at_s > last + 1:
                raise InputError(f"--like {example.path}: it ends at {last:.2f} s, before {example.at_s:g} s")
            # the window begins half of its length before: its first frame is the one shown then
            half = (maker.steps["span_s"] or 0) / 2
            shown = reader.pts[reader.pts <= max(example.at_s - half, float(reader.pts[0])) + 1e-6]
            _, batches = maker.stream(reader, start_s=float(shown[-1]))
            found = next(islice(batches, 1))[0]
    return units(found, example.path)[0], maker.made_by["weights_hash"]
