"""`vid extract-features --audio`: log-mel spectrograms of any number of videos or sound files, as folders of features."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.audio.logmel import LogMel, stack_patches
from tasks.core.audio.read import SoundReader, open_sound
from tasks.core.data.feature_sidecar import describe
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.data.rows import Row
from tasks.core.inference.loop import Advance, still
from tasks.core.reporter import Reporter
from tasks.core.towers.config import SoundConfig
from tasks.core.towers.produce import produce
from tasks.core.video.reader import VideoError

_NEARLY = 1e-6


def run(
    config: SoundConfig, inputs: list[Input], out: Path, overwrite: bool, reporter: Reporter, among: Sequence[Input] | None = None
) -> Iterator[dict[str, Any]]:
    """Features of the sound of every input, one after the other; arguments, records and errors as `produce`."""
    yield from produce(SoundExtractor(config), inputs, out, overwrite, reporter, among, "listening")


class SoundExtractor:
    """A log-mel spectrogram, cut into features.

    Args:
        config: settings.

    Attributes:
        method: the kind of spectrogram.
        made_by: what features are and what they see, for the folder's sidecar.
        steps: stride and span of features, seconds.
        described: the kind of features.
        dim: channels of a feature.
        settings: recorded with every result.
    """

    def __init__(self, config: SoundConfig):
        self.config, self.logmel = config, LogMel(config.logmel).eval()
        self.method, self.format, self.dtype = config.audio, config.format, config.dtype
        mel = config.logmel
        self.dim = mel.n_mels * (2 if config.pool == "moments" else config.frames)
        self.steps = {"stride_s": config.step * mel.stride_s, "span_s": (config.frames - 1) * mel.stride_s + mel.span_s}
        pooled = {} if config.pool == "stack" else {"pool": config.pool}
        self.made_by = {"reference": config.audio, "weights_hash": None, "logmel": mel.model_dump(), "frames": config.frames, **pooled}
        self.described = describe(self.made_by, self.steps, config.format, config.dtype)
        self.settings = {"logmel": mel.model_dump(), "frames": config.frames, "step": config.step, **pooled, "id": self.described["id"]}

    def of_row(self, row: Row, advance: Advance) -> tuple[np.ndarray, Grid | None, np.ndarray | None, dict[str, Any]]:
        """As `FeatureMaker`; the facts are `has_sound` and `damage` (text or None)."""
        with open_sound(row.path, self.config.logmel.sample_rate, "silence" if self.config.silence else "error") as sound:
            features, grid = self.features(sound, row.start_s, row.end_s, advance)
            return features, grid, None, {"has_sound": sound.has_sound, "damage": sound.damage}

    def features(
        self, sound: SoundReader, start_s: float | None = None, end_s: float | None = None, advance: Advance = still
    ) -> tuple[np.ndarray, Grid]:
        """All of `stream`: (n, dim) float32, and their grid; arguments and errors as there."""
        grid, blocks = self.stream(sound, start_s, end_s, advance)
        return np.concatenate(list(blocks)), grid

    def stream(
        self, sound: SoundReader, start_s: float | None = None, end_s: float | None = None, advance: Advance = still
    ) -> tuple[Grid, Iterator[np.ndarray]]:
        """Log-mel frames, `config.frames` of them a feature, as long as features begin before the sound or picture ends; block by block.

        Args:
            sound: open, at the spectrogram's sample rate; the part start_s <= t < end_s of it counts. What the last features see beyond the
                end of the file is silence.
            advance: called with the number of frames that are done.

        Returns:
            the grid, which begins with the pictures, or with the part; arrays float32, (n, frames * n_mels), frame after frame, or
            (n, 2 * n_mels), mean and standard deviation.

        Raises:
            VideoError: the part lies outside of the file.
        """
        begin, end = max(sound.start_s, start_s or sound.start_s), min(sound.end_s, sound.end_s if end_s is None else end_s)
        if begin >= end:
            raise VideoError(sound.path, f"nothing is there from {begin:g} s on: it ends at {sound.end_s:.2f} s")
        grid = Grid(**self.steps, offset_s=begin)
        n = max(1, math.ceil((end - begin) / grid.stride_s - _NEARLY))
        return grid, self._blocks(sound.blocks(begin, begin + (n - 1) * grid.stride_s + grid.span_s), advance)

    def _blocks(self, sound: Iterator[np.ndarray], advance: Advance) -> Iterator[np.ndarray]:
        frames, step = self.config.frames, self.config.step
        rest, skip = torch.zeros(0, self.config.logmel.n_mels), 0  # skip: frames to come before the next feature, where a hop is longer
        for part in self.logmel.stream(sound):
            advance(len(part))
            joined = torch.cat([rest, part])
            rest, skip = joined[skip:], max(0, skip - len(joined))
            patches = stack_patches(rest, frames, step)
            if len(patches):
                yield self._pooled(patches).numpy()
                behind = len(patches) * step
                rest, skip = rest[behind:], max(0, behind - len(rest))

    def _pooled(self, patches: torch.Tensor) -> torch.Tensor:
        if self.config.pool == "stack":
            return patches.flatten(1)
        return torch.cat([patches.mean(1), patches.std(1, correction=0)], 1)
