"""Several folders of features of the same videos, brought to the grid of the first."""

from collections.abc import Mapping

import numpy as np

from tasks.core.data.feature_config import FeatureConfig, StreamConfig
from tasks.core.data.features import FeatureFolder, Features
from tasks.core.data.grid import Grid, same_s
from tasks.core.errors import UsageError

_ROUNDING = 1e-6


def open_streams(data: FeatureConfig, where: str = "data") -> dict[str, FeatureFolder]:
    """The folders of features that the settings name, in their order.

    Args:
        data: the settings.
        where: the section they are, for messages.

    Raises:
        UsageError: no folder is named; one cannot be used (`FeatureFolder`), or holds one feature per video; their strides differ and
            `align` is none.
    """
    if not data.streams:
        raise UsageError(
            "no folder of features given", f"--set {where}.streams.visual.folder=FOLDER (of vid extract-features --per window)"
        )
    folders = {name: _open(stream, f"{where}.streams.{name}") for name, stream in data.streams.items()}
    for name, folder in folders.items():
        if folder.whole:
            raise UsageError(f"{folder.path} ({where}.streams.{name}) has one feature per video", "extract them with --per window")
    if data.align == "none":
        _check_strides(folders, where)
    return folders


def _open(stream: StreamConfig, where: str) -> FeatureFolder:
    grid = Grid(**stream.grid.model_dump()) if stream.grid else None
    return FeatureFolder(stream.folder, grid, stream.files, stream.layout, stream.key, stream.encoder, f"{where}.grid")


def _check_strides(folders: Mapping[str, FeatureFolder], where: str) -> None:
    (first, reference), *others = folders.items()
    stride = reference.steps["stride_s"]
    for name, folder in others:
        other = folder.steps["stride_s"]
        if stride is None or other is None or not same_s(stride, other):
            strides = " and ".join("by frame rate" if each is None else f"{each:g} s" for each in (stride, other))
            raise UsageError(
                f"the streams {first} and {name} have different strides: {strides}",
                f"--set {where}.align=nearest or linear brings {name} to the grid of {first}; or extract both with one --hop",
            )


def resample(features: Features, t: np.ndarray, how: str = "nearest") -> tuple[np.ndarray, np.ndarray]:
    """Features at other times.

    Args:
        features: (n, d) on their grid.
        t: (L,) middles of what is wanted, presentation time in seconds.
        how: `nearest`, the feature whose middle is nearest (the earlier of two equals), or `linear`, between the two around.

    Returns:
        (L, d) float32, zeros where there is nothing; (L,) bool, where there is something: no further than half a stride from the first or
        last middle.
    """
    n = len(features.values)
    place = np.asarray(features.grid.index_of(np.asarray(t, np.float64)))
    known = (place >= -0.5 - _ROUNDING) & (place <= n - 0.5 + _ROUNDING)
    if how == "nearest":
        found = features.values[_inside(np.ceil(place - 0.5 - _ROUNDING), n)].astype(np.float32)
    else:
        place = np.clip(place, 0, n - 1)
        low = _inside(np.floor(place), n)
        weight = (place - low)[:, None]
        before, after = (features.values[_inside(low + step, n)].astype(np.float64) for step in (0, 1))
        found = (before * (1 - weight) + after * weight).astype(np.float32)
    found[~known] = 0
    return found, known


def _inside(numbers: np.ndarray, n: int) -> np.ndarray:
    return np.clip(numbers, 0, n - 1).astype(np.int64)
