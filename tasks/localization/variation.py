"""Random changes of features and events in training: what a model should not care about, and sound that does not belong to the picture.

Pictures side by side change places, each is mirrored, sound gets louder, brighter and has gaps, time runs faster or slower. In *dubbing*
the sound around an event is taken from another video: what was an event stays one only where both videos have an event of its class at
that time, since an event is where its picture and its sound coincide.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tasks.core.data.features import FeatureFolder
from tasks.core.towers.config import MotionConfig
from tasks.core.towers.motion_parts import mirrored
from tasks.localization.variation_config import VariationConfig

SHORTEST = 2.0
"""Of events that are left where others were cut off, features."""


@dataclass
class Piece:
    """Neighbouring features of a video in training.

    Attributes:
        streams: name -> (C, n) float32.
        segments: (N, 2) float64, events on the grid of features.
        labels: (N,) int64.
    """

    streams: dict[str, torch.Tensor]
    segments: np.ndarray
    labels: np.ndarray

    @property
    def length(self) -> int:
        """Features."""
        return next(iter(self.streams.values())).shape[1]


@dataclass(frozen=True)
class Layout:
    """Where the channels of a stream are what.

    Attributes:
        columns: groups of channels that say the same of pictures side by side.
        mirror: channels (C,) in the order of a mirrored picture, each column by itself; None: not known.
        mels: channels of a log-mel spectrum, of which the first `spectra` rows are, the others deviations; 0: something else.
        spectra: see above.
    """

    columns: int = 1
    mirror: np.ndarray | None = field(default=None, repr=False)
    mels: int = 0
    spectra: int = 0


def layout_of(folder: FeatureFolder) -> Layout:
    """The layout of features of this suite's towers; of others nothing is known."""
    encoder: Mapping[str, Any] = folder.encoder
    if "motion" in encoder:
        config = MotionConfig(**encoder["motion"])
        return Layout(config.columns, mirrored(config))
    if "logmel" in encoder:
        mels = encoder["logmel"]["n_mels"]
        return Layout(mels=mels, spectra=1 if encoder.get("pool") == "moments" else folder.dim // mels)
    return Layout()


class Variation:
    """Changes the pieces of a batch.

    Args:
        config: probabilities and strengths.
        layouts: of the streams.
    """

    def __init__(self, config: VariationConfig, layouts: Mapping[str, Layout]):
        self.config, self.layouts = config, dict(layouts)

    def __call__(self, pieces: list[Piece], rngs: list[np.random.Generator], longest: int) -> list[Piece]:
        """The pieces as they are learned from; those given stay as they are.

        Args:
            pieces: of a batch.
            rngs: one for each.
            longest: features of a piece at most.
        """
        dubbed = [self._dubbed(piece, pieces, rng) for piece, rng in zip(pieces, rngs, strict=True)]
        return [self._alone(piece, rng, longest) for piece, rng in zip(dubbed, rngs, strict=True)]

    def _alone(self, piece: Piece, rng: np.random.Generator, longest: int) -> Piece:
        config = self.config
        if config.stretch > 1:
            piece = stretched(piece, config.stretch ** rng.uniform(-1, 1), longest)
        streams = dict(piece.streams)
        if "visual" in streams:
            streams["visual"] = self._picture(streams["visual"], self.layouts["visual"], rng)
        if "audio" in streams and self.layouts["audio"].mels:
            streams["audio"] = self._sound(streams["audio"], self.layouts["audio"], rng)
        return Piece(streams, piece.segments, piece.labels)

    def _picture(self, x: torch.Tensor, layout: Layout, rng: np.random.Generator) -> torch.Tensor:
        parts = list(x.chunk(layout.columns))
        size = len(parts[0])
        if layout.mirror is not None:
            order = torch.from_numpy(layout.mirror[:size])
            parts = [part[order] if rng.random() < self.config.mirror else part for part in parts]
        if rng.random() < self.config.swap:
            parts = [parts[k] for k in rng.permutation(len(parts))]
        if self.config.fade:
            parts = [part * (1 + self.config.fade) ** rng.uniform(-1, 1) for part in parts]
        return torch.cat(parts)

    def _sound(self, x: torch.Tensor, layout: Layout, rng: np.random.Generator) -> torch.Tensor:
        config, mels = self.config, layout.mels
        rows = x.unflatten(0, (-1, mels)).clone()
        spectra = rows[: layout.spectra]
        if config.gain_db:
            spectra += rng.uniform(-config.gain_db, config.gain_db) * math.log(10) / 20
        if config.tilt_db:
            spectra += torch.linspace(-1, 1, mels)[:, None] * (rng.uniform(-config.tilt_db, config.tilt_db) * math.log(10) / 20)
        if config.mel_shift:
            by = int(rng.integers(-config.mel_shift, config.mel_shift + 1))
            rows = rows[:, (torch.arange(mels) - by).clamp(0, mels - 1)]
        quiet, n = rows.amin(2, keepdim=True), rows.shape[2]
        for _ in range(config.mel_masks):
            width = int(rng.integers(config.mel_mask + 1))
            first = int(rng.integers(mels - width + 1))
            rows[:, first : first + width] = quiet[:, first : first + width]
        for _ in range(config.gaps):
            width = int(rng.integers(config.gap + 1))
            first = int(rng.integers(max(1, n - width + 1)))
            rows[:, :, first : first + width] = quiet
        return rows.flatten(0, 1)

    def _dubbed(self, piece: Piece, others: list[Piece], rng: np.random.Generator) -> Piece:
        if not self.config.dub or "audio" not in piece.streams or "visual" not in piece.streams:
            return piece
        dubbed = piece
        for event, label in zip(piece.segments, piece.labels, strict=True):
            if rng.random() < self.config.dub:
                dubbed = self._dub_one(dubbed, event, label, others, rng)
        return dubbed

    def _dub_one(self, piece: Piece, event: np.ndarray, label: int, others: list[Piece], rng: np.random.Generator) -> Piece:
        """The sound of an event from an event of another video: of its class (`same` of the time) or of any."""
        same = rng.random() < self.config.dub_same
        found = [(o, k) for o in others for k in range(len(o.segments)) if not same or o.labels[k] == label]
        if not found:
            return piece
        other, k = found[rng.integers(len(found))]
        begin, end = (round(float(t)) for t in event)
        shift = begin - round(float(other.segments[k, 0]))
        end = min(end, round(float(other.segments[k, 1])) + shift)
        return dub(piece, other, max(0, begin), min(end, piece.length), shift)


def dub(piece: Piece, other: Piece, first: int, stop: int, shift: int) -> Piece:
    """A piece with the sound of another one in features [first, stop).

    Args:
        shift: feature t of `piece` gets the sound of feature t - shift of `other`.

    Returns:
        the piece, its events cut off at the sound that is not theirs any more; new events where events of one class coincide.
    """
    first, stop = max(first, shift, 0), min(stop, other.length + shift, piece.length)
    if stop - first < SHORTEST:
        return piece
    audio = piece.streams["audio"].clone()
    audio[:, first:stop] = other.streams["audio"][:, first - shift : stop - shift]
    segments, labels = [], []

    def keep(start: float, end: float, label: int) -> None:
        if end - start >= SHORTEST:
            segments.append((start, end))
            labels.append(label)

    low, high = first - 0.5, stop - 0.5  # a feature is the stretch around its place
    for (start, end), label in zip(piece.segments, piece.labels, strict=True):
        if end <= low or start >= high:
            segments.append((start, end))
            labels.append(label)
            continue
        keep(start, min(end, low), label)
        keep(max(start, high), end, label)
        for (their_start, their_end), theirs in zip(other.segments + shift, other.labels, strict=True):
            if theirs == label:
                keep(max(start, their_start, low), min(end, their_end, high), label)
    return Piece({**piece.streams, "audio": audio}, np.array(segments).reshape(-1, 2), np.array(labels, np.int64))


def stretched(piece: Piece, factor: float, longest: int) -> Piece:
    """A piece that lasts `factor` times as long, but not longer than `longest` features."""
    size = max(2, min(round(piece.length * factor), longest))
    factor = size / piece.length
    streams = {name: F.interpolate(x[None], size, mode="linear", align_corners=False)[0] for name, x in piece.streams.items()}
    return Piece(streams, (piece.segments + 0.5) * factor - 0.5, piece.labels)
