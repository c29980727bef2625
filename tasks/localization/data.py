"""Videos with their events: what is read, how it is cropped in training, and what the model takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from tasks.core.data.batch import Batch
from tasks.core.data.features import FeatureFolder
from tasks.core.data.manifest import read_sources
from tasks.core.data.rows import Row, Rows
from tasks.core.errors import InputError, UsageError
from tasks.localization.config import STREAMS, CropConfig, FinetuneConfig
from tasks.localization.truth import is_event, with_events
from tasks.localization.variation import Piece, Variation

NAMES = {"visual": "video", "audio": "audio"}
"""Name of a stream -> name of the model's input."""
TRIALS = 200
"""Crops that are drawn until one has an event in it."""


@dataclass(frozen=True)
class EventSets:
    """What a run learns from.

    Attributes:
        train, val: rows of manifests, one for each event, and one without times for a video without events.
        labels: the classes of `train`, sorted.
    """

    train: Rows
    val: Rows
    labels: list[str]

    @property
    def unknown(self) -> list[str]:
        """Classes of `val` that training does not have."""
        return [name for name in self.val.codes("label")[1] if name not in set(self.labels)]


def read_sets(config: FinetuneConfig) -> EventSets:
    """Training and validation events; UsageError or InputError where there are none."""
    if not config.data.train:
        raise UsageError("no training events given", "add --data MANIFEST, a row for each event: path,label,start,end")
    train = with_events(read_sources(config.data.train, "train"), config.data.train, config.annotations)
    val = read_sources(config.data.val, "val") if config.data.val else Rows.of([])
    val = with_events(val, config.data.val, config.annotations)
    for rows, what in ((train, "training"), (val, "validation")):
        if len(rows) and not any(is_event(row) for row in rows):
            raise InputError(
                f"none of the {len(rows)} {what} rows is an event",
                "a manifest of events has the columns path,label,start,end; of a list of videos: --set annotations=FILE.json",
            )
    return EventSets(train, val, train.codes("label")[1])


def check_streams(config: FinetuneConfig, folders: dict[str, FeatureFolder]) -> dict[str, int]:
    """Channels of every stream; UsageError where a stream has another name than STREAMS, or one that the model needs is missing."""
    if odd := [name for name in folders if name not in STREAMS]:
        raise UsageError(f"a localiser has no stream '{odd[0]}'", f"call its folder data.streams.{' or data.streams.'.join(STREAMS)}")
    if missing := [name for name in config.model.needed if name not in folders]:
        there = next(iter(folders))
        raise UsageError(
            f"model.input is {config.model.input}, and there are no features of the stream '{missing[0]}'",
            f"--set data.streams.{missing[0]}.folder=FOLDER, or --set model.input={there} to learn from {there} alone",
        )
    return {name: folder.dim for name, folder in folders.items()}


def cut(segments: np.ndarray, first: float, last: float, min_inside: float) -> tuple[np.ndarray, np.ndarray]:
    """Events in a crop.

    Args:
        segments: (N, 2), in any unit.
        first, last: of the crop.
        min_inside: share of an event that must be inside.

    Returns:
        (M, 2) the parts inside, counted from `first`; (N,) bool, which events they are.
    """
    inside = np.clip(segments, first, last)
    lengths = segments[:, 1] - segments[:, 0]
    kept = (lengths > 0) & (inside[:, 1] - inside[:, 0] >= min_inside * np.maximum(lengths, 1e-9))
    return inside[kept] - first, kept


def draw_start(segments: np.ndarray, length: int, total: int, min_inside: float, rng: np.random.Generator) -> int:
    """The first feature of a crop of `length` among `total`, with an event in it where TRIALS draws find one; segments are (N, 2) on the
    grid of features.
    """
    for _ in range(TRIALS):
        start = int(rng.integers(total - length + 1))
        if cut(segments, start, start + length, min_inside)[1].any():
            break
    return start


class EventCropper:
    """Chooses where a long video is cut in training (`core.data.feature_loader.Cropper`)."""

    def __init__(self, crop: CropConfig):
        self.min_inside = crop.min_inside

    def __call__(self, times: np.ndarray, length: int, rng: np.random.Generator, rows: Sequence[Row]) -> int:
        segments = np.array([(row.start_s, row.end_s) for row in rows if is_event(row)], np.float64).reshape(-1, 2)
        return draw_start(to_grid(segments, times), length, len(times), self.min_inside, rng)


def to_grid(seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Times as (fractional) numbers of features: a feature is where the middle of what it sees is (`core.data.grid.Grid.index_of`).

    Args:
        seconds: (...).
        times: (L, 2), begin and end of what each feature sees; L at least 1.
    """
    middles = times.astype(np.float64).mean(1)
    stride = (middles[-1] - middles[0]) / (len(middles) - 1) if len(middles) > 1 else max(float(times[0, 1] - times[0, 0]), 1e-3)
    return (seconds - middles[0]) / stride


def to_seconds(places: np.ndarray, times: np.ndarray, size: int | None = None) -> np.ndarray:
    """Places on the grid of features as times, within what the features see; the inverse of `to_grid`.

    Args:
        places: (...), numbers of features.
        times: (L, 2), begin and end of what each feature sees.
        size: features to which the L were stretched, on whose grid the places are; None: they were not.
    """
    middles, span = times.astype(np.float64).mean(1), float(times[0, 1] - times[0, 0])
    stride = (middles[-1] - middles[0]) / (len(middles) - 1) if len(middles) > 1 else max(span, 1e-3)
    if size is not None:
        places = (places + 0.5) * len(times) / size - 0.5
    return np.clip(middles[0] + places * stride, times[0, 0], times[-1, 1])


class TrainPieces:
    """Brings a batch of pieces of features to what `method.EventTraining` takes: events on the grid, resized or cropped.

    Args:
        config: of the run.
        main: the stream that sets the grid.
        variation: random changes.
    """

    def __init__(self, config: FinetuneConfig, main: str, variation: Variation | None = None):
        self.config, self.main, self.variation = config, main, variation

    def __call__(self, batch: Batch, device: torch.device) -> Batch:
        """From a CPU batch (`core.data.feature_batch.collate`) of N pieces to `video` and `audio` (N, C, T), `mask` (N, T), `segments` and
        `labels`, on the device.
        """
        rngs = [np.random.default_rng(int(seed)) for seed in batch["seed"]]
        pieces = [self._piece(batch, number, rng) for number, rng in enumerate(rngs)]
        size = self.config.resize or batch["mask"].shape[1]
        if self.variation is not None:
            pieces = self.variation(pieces, rngs, size)
        found: Batch = {"mask": torch.arange(size) < torch.tensor([piece.length for piece in pieces])[:, None]}
        for name in pieces[0].streams:
            found[NAMES[name]] = torch.stack([F.pad(piece.streams[name], (0, size - piece.length)) for piece in pieces])
        found = {name: values.to(device, non_blocking=True) for name, values in found.items()}
        found["segments"] = [torch.from_numpy(piece.segments.astype(np.float32)).to(device) for piece in pieces]
        found["labels"] = [torch.from_numpy(piece.labels).to(device) for piece in pieces]
        return found

    def _piece(self, batch: Batch, number: int, rng: np.random.Generator) -> Piece:
        length, config = int(batch["length"][number]), self.config
        streams = {name: batch["features" if name == self.main else name][number, :length].T for name in self._names(batch)}
        segments = to_grid(batch["segments"][number].double().numpy(), batch["times"][number, :length].numpy())
        labels = batch["segment_label"][number].numpy()
        events = (labels >= 0) & (segments[:, 1] > segments[:, 0])
        segments, labels = segments[events], labels[events]
        was_cut = length == config.data.max_length
        if was_cut:
            segments, kept = cut(segments, 0, length, config.crop.min_inside)
            labels = labels[kept]
        if config.resize:
            streams, segments = resized(streams, segments, config.resize)
            length = config.resize
        if config.crop.ratio and (config.resize or not was_cut):
            low, high = (round(share * length) for share in config.crop.ratio)
            size = int(rng.integers(max(low, 1), min(max(high, 1), length) + 1))
            if size < length:
                start = draw_start(segments, size, length, config.crop.min_inside, rng)
                segments, kept = cut(segments, start, start + size, config.crop.min_inside)
                labels, length = labels[kept], size
                streams = {name: values[:, start : start + size] for name, values in streams.items()}
        return Piece(streams, segments, labels)

    def _names(self, batch: Batch) -> list[str]:
        return [name for name in STREAMS if name == self.main or name in batch]


def resized(streams: dict[str, torch.Tensor], segments: np.ndarray, size: int) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Features (C, n) stretched to `size`, linearly, and events on the new grid: feature i now lies at (i + 0.5) n / size - 0.5."""
    length = next(iter(streams.values())).shape[1]
    stretched = {name: F.interpolate(values[None], size, mode="linear", align_corners=False)[0] for name, values in streams.items()}
    return stretched, (segments + 0.5) * size / length - 0.5
