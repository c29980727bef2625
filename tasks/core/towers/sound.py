"""`vid extract-features --audio`: log-mel spectrograms of any number of videos or sound files, as folders of features."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.audio.logmel import LogMel, stack_patches
from tasks.core.audio.read import SoundReader, open_sound
from tasks.core.data.feature_sidecar import RECORD, check_folder, describe
from tasks.core.data.features import write_features
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.report.outputs import finished, readable
from tasks.core.reporter import Reporter
from tasks.core.towers.config import SoundConfig
from tasks.core.video.children import each
from tasks.core.video.reader import VideoError

_NEARLY = 1e-6


def run(
    config: SoundConfig, inputs: list[Input], out: Path, overwrite: bool, reporter: Reporter, among: Sequence[Input] | None = None
) -> Iterator[dict[str, Any]]:
    """Features of the sound of every input, one after the other: a folder of features (`core.data.features`).

    Args:
        config: settings.
        inputs: to do here.
        out: the folder.
        overwrite: do again what is there.
        reporter: progress.
        among: what all processes together do, where `inputs` is a share; of these alone may other features be there.

    Yields, in the order of the inputs:
        the record of `one`; `{"video", "error"}` for an input that cannot be read or has no sound; a record with `"skipped": True` where
        the files were there already, made with the same settings.

    Raises:
        UsageError: the folder holds features of another kind or grid.
    """
    extractor, redone = SoundExtractor(config), {source.name for source in (among or inputs)}
    overwrite = not check_folder(out, extractor.described, redone) or overwrite
    work = partial(one, extractor, out, overwrite, redone)
    yield from each(work, inputs, 0, reporter, "listening", "video", lambda source, reason: {"video": source.shown, "error": reason})


def one(
    extractor: "SoundExtractor",
    out: Path,
    overwrite: bool,
    redone: Collection[str],
    source: Input,
    advance: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Features of the sound of one input, written.

    Args:
        redone: names of all inputs of the command.

    Returns:
        `video`, `method`, `settings`, `n` (features), `dim`, `grid`, `has_sound`, `damage` (text or None), `id` (of the folder's kind of
        features), `files`.
    """
    row, config = source.row, extractor.config
    wanted = [out / f"{source.name}{suffix}" for suffix in (RECORD, f".features.{config.format}")]
    if not overwrite and (record := finished(wanted, wanted[0], source.shown, config.audio, extractor.settings, row.path)):
        return record
    try:
        with open_sound(row.path, config.logmel.sample_rate, "silence" if config.silence else "error") as sound:
            features, grid = extractor.features(sound, row.start_s, row.end_s, advance)
            facts = {
                "video": readable(source.shown),
                "method": config.audio,
                "settings": extractor.settings,
                "has_sound": sound.has_sound,
                "damage": sound.damage,
            }
    except VideoError as error:
        return {"video": source.shown, "error": error.reason}
    made = (extractor.made_by, config.format, None, facts, extractor.steps, redone)
    files = write_features(out, source.name, features.astype(config.dtype), grid, *made)
    return {**json.loads(wanted[0].read_text(encoding="utf-8")), "files": [str(path) for path in files]}


class SoundExtractor:
    """A log-mel spectrogram, cut into features.

    Args:
        config: settings.

    Attributes:
        made_by: what features are and what they see, for the folder's sidecar.
        steps: stride and span of features, seconds.
        described: the kind of features.
        settings: recorded with every result.
    """

    def __init__(self, config: SoundConfig):
        self.config, self.logmel = config, LogMel(config.logmel).eval()
        mel = config.logmel
        self.steps = {"stride_s": config.step * mel.stride_s, "span_s": (config.frames - 1) * mel.stride_s + mel.span_s}
        self.made_by = {"reference": config.audio, "weights_hash": None, "logmel": mel.model_dump(), "frames": config.frames}
        self.described = describe(self.made_by, self.steps, config.format, config.dtype)
        self.settings = {"logmel": mel.model_dump(), "frames": config.frames, "step": config.step, "id": self.described["id"]}

    def features(
        self, sound: SoundReader, start_s: float | None = None, end_s: float | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> tuple[np.ndarray, Grid]:
        """Log-mel frames, `config.frames` of them stacked into a feature, as long as features begin before the sound or picture ends.

        Args:
            sound: open, at the spectrogram's sample rate; the part start_s <= t < end_s of it counts. What the last features see beyond the
                end of the file is silence.
            advance: called with the number of frames that are done.

        Returns:
            (n, frames * n_mels) float32, frame after frame, and their grid, which begins with the pictures, or with the part.

        Raises:
            VideoError: the part lies outside of the file.
        """
        begin, end = max(sound.start_s, start_s or sound.start_s), min(sound.end_s, sound.end_s if end_s is None else end_s)
        if begin >= end:
            raise VideoError(sound.path, f"nothing is there from {begin:g} s on: it ends at {sound.end_s:.2f} s")
        grid = Grid(**self.steps, offset_s=begin)
        n = max(1, math.ceil((end - begin) / grid.stride_s - _NEARLY))
        found = []
        for part in self.logmel.stream(sound.blocks(begin, begin + (n - 1) * grid.stride_s + grid.span_s)):
            found.append(part)
            advance(len(part))
        stacked = stack_patches(torch.cat(found), self.config.frames, self.config.step)
        return stacked.flatten(1).numpy(), grid
