"""`vid align`: sentences to times in any number of videos, by a trained aligner, or subtitles by the sound alone."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.alignment import decode, sync
from tasks.alignment.config import AlignConfig
from tasks.alignment.learned import joined, lengths_of, load_aligner, share_of, weighted
from tasks.alignment.result import Aligned, Alignment, as_record
from tasks.alignment.sentences import Script, read_script, script_of
from tasks.alignment.writers import SUFFIXES, write_file
from tasks.core.audio.read import open_sound
from tasks.core.data.captions import sentences_of
from tasks.core.data.feature_files import FeatureError
from tasks.core.data.features import Features
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.detector import Detector, Footage, detect_all, open_footage
from tasks.core.inference.loop import Advance, still
from tasks.core.inference.output import Output
from tasks.core.reporter import Reporter

LEAST = 0.5
"""Probability from which a sentence is alignable, where the model has learned that."""
SOUND = "sound-activity"
"""The method without a model."""


def run(
    config: AlignConfig, inputs: list[Input], text: Path | None, output: Output, workers: int, reporter: Reporter
) -> Iterator[dict[str, Any]]:
    """Aligns the sentences of every input, one after the other.

    Args:
        config: settings.
        inputs: the videos.
        text: sentences of the one video; None: those of the manifest.
        output: what is written.
        workers: not used where a model is.
        reporter: progress.

    Yields, in the order of the inputs:
        the record of `result.as_record` plus `files`; `{"video", "error"}` for an input that cannot be used; a record with
        `"skipped": True` where its files were made before.

    Raises:
        UsageError: a model that cannot be used; text without times and no model; a file of the user would be overwritten.
    """
    if text is not None and len(inputs) != 1:
        raise UsageError(f"--text names the sentences of one video, these are {len(inputs)}", "give a manifest with a column subtitles")
    if text is not None:
        check_own_file(text, inputs[0], output)
    kind = SoundAligner if config.model is None else ModelAligner
    yield from detect_all(kind(config, text), inputs, output, workers, reporter, "aligning")


def check_own_file(text: Path, source: Input, output: Output) -> None:
    """UsageError where a file that would be written is the user's own."""
    if output.folder is None or output.overwrite:
        return
    for file in output.files(SUFFIXES, source.name).values():
        if file.exists() and file.resolve() == text.resolve():
            raise UsageError(f"{file} is the file that you gave, and would be overwritten", "choose another --out, or add --overwrite")


@dataclass(frozen=True)
class Heard:
    """An open video with its sentences.

    Attributes:
        footage: the video.
        script: the sentences.
        features: makes the features of all streams, side by side, on the grid of the first; None without a model.
    """

    footage: Footage
    script: Script
    features: Callable[[Advance], tuple[Grid, np.ndarray]] | None = None


class _Aligner(Detector[Heard, Any, Alignment]):
    """What both ways share."""

    suffixes = SUFFIXES

    def __init__(self, config: AlignConfig, text: Path | None):
        self.config, self.text, self.decoder = config, text, config.decoder
        self._script = None if text is None else read_script(text)
        digest = None if text is None else hashlib.sha256(text.read_bytes()).hexdigest()[:16]
        self.settings: dict[str, Any] = {"text_hash": digest, "order": config.order}

    def script(self, source: Input) -> Script:
        """The sentences of an input; InputError where it has none."""
        if self._script is not None:
            return self._script
        row = source.row
        if row.text is None and row.subtitles is not None and row.start_s is None and row.end_s is None:
            return read_script(row.subtitles)
        return script_of(row.path, sentences_of(row))

    def record(self, result: Alignment) -> dict[str, Any]:
        return as_record(result)

    def write(self, kind: str, path: Path, result: Alignment, opened: Heard, advance: Advance = still) -> None:
        write_file(kind, path, result)

    def alignment(self, opened: Heard, sentences: list[Aligned], **found: Any) -> Alignment:
        """The result, with what is known of the video."""
        footage = opened.footage
        facts = {"file": os.path.abspath(footage.reader.path), "file_start_s": float(footage.reader.pts[0]), **footage.facts()}
        defaults = {"similarity": None, "grid": None, "least": None, "shift": None}
        notes = opened.script.notes + found.pop("notes", [])
        return Alignment(
            method=self.method, settings=self.settings, script=opened.script, sentences=sentences, notes=notes, **defaults | found | facts
        )


class SoundAligner(_Aligner):
    """Subtitles by one offset and one drift, found in the sound.

    Raises:
        UsageError: the text has no times.
    """

    method = SOUND

    def __init__(self, config: AlignConfig, text: Path | None):
        super().__init__(config, text)
        self.settings |= {"max_offset_s": config.max_offset_s}
        if config.min_score is not None or config.order != "free":
            raise UsageError("--min-score and --order are for a model: without one all subtitles are shifted together", "add --model RUN")
        if self._script is not None and self._script.times is None:
            raise UsageError(_UNTIMED.format(path=text), _TRAIN)

    @contextmanager
    def open(self, source: Input) -> Iterator[Heard]:
        script = self.script(source)
        if script.times is None:
            raise InputError(_UNTIMED.format(path=script.path), _TRAIN)
        with open_footage(source, self.decoder) as footage:
            yield Heard(footage, script)

    def score(self, opened: Heard, advance: Advance = still) -> Iterator[sync.Shift]:
        with open_sound(opened.footage.reader.path, sync.RATE) as sound:
            activity = sync.sound_activity(sound)
            advance(0)
            yield sync.find_shift(activity, opened.script.times, sound.start_s, self.config.max_offset_s)

    def finish(self, opened: Heard, scores: Iterator[sync.Shift]) -> Alignment:
        shift = next(scores)
        fit = min(1.0, max(0.0, shift.score))
        sentences = [
            Aligned(text, shift(start), shift(end), (shift(start) + shift(end)) / 2, fit, True, (start, end))
            for text, (start, end) in zip(opened.script.texts, opened.script.times, strict=True)
        ]
        said = {name: round(value, 6) for name, value in asdict(shift).items()}
        note = "without a model all subtitles are moved by one offset and one drift, so that they are shown when something is heard"
        return self.alignment(opened, sentences, shift=said, notes=[note])


_UNTIMED = "{path} has no times, and without a model only timed subtitles can be moved, by what is heard"
_TRAIN = "--model RUN finds the place of each sentence; train one: vid pretrain --preset alignment/narrated"


class ModelAligner(_Aligner):
    """A model of `vid pretrain`, which finds the place of every sentence.

    Raises:
        UsageError: the model cannot be used, or features given for it are not those it learned from.
    """

    def __init__(self, config: AlignConfig, text: Path | None):
        super().__init__(config, text)
        from tasks.core.checkpoint import find_model, weights_hash
        from tasks.core.device import usable_device
        from tasks.core.towers.remembered import given_folders, tower_of

        self.model, self.method = load_aligner(config.model, usable_device(config.device)), config.model
        records = self.model.saved["streams"]
        self.folders = given_folders(config.features, records, config.model)
        self.towers = {
            name: tower_of(name, record, config.model, config.device, config.decoder)
            for name, record in records.items()
            if name not in self.folders
        }
        own = LEAST if self.model.saved["head_trained"] else self.model.saved.get("least")
        self.least = own if config.min_score is None else config.min_score
        self.settings |= {
            "min_score": self.least,
            "model_hash": weights_hash(find_model(config.model)),
            "features": {name: str(folder.path) for name, folder in self.folders.items()},
        }

    @contextmanager
    def open(self, source: Input) -> Iterator[Heard]:
        script = self.script(source)
        with ExitStack() as stack:
            footage = stack.enter_context(open_footage(source, self.decoder))
            yield Heard(footage, script, lambda advance: self._features(source, footage, stack, advance))

    def _features(self, source: Input, footage: Footage, stack: ExitStack, advance: Advance) -> tuple[Grid, np.ndarray]:
        """Grid of the first stream, and all streams side by side on it, (n, D) float32."""
        found: list[Features] = []
        for name in self.model.saved["streams"]:
            if name in self.folders:
                found.append(_saved(self.folders[name], source))
                continue
            tower = self.towers[name]
            opened = stack.enter_context(tower.open(source.row.path, silent=False)) if tower.hears else footage.reader
            grid, blocks = tower.stream(opened, footage.start_s, footage.end_s, advance)
            found.append(Features(np.concatenate(list(blocks)), grid))
        return joined(found, self.model.saved["preprocessing"].get("align", "none"))

    def score(self, opened: Heard, advance: Advance = still) -> Iterator[Any]:
        grid, features = opened.features(advance)
        script = opened.script
        places = None
        if script.times is not None:
            places = np.asarray(grid.index_of(np.mean(script.times, axis=1)))
        yield grid, self.model.similarities(features, self.model.encode(script.texts), places)

    def finish(self, opened: Heard, scores: Iterator[Any]) -> Alignment:
        grid, found = next(scores)
        script, values = opened.script, found.values
        size = values.shape[1]
        lengths = lengths_of(script.durations, grid, size)
        spans = decode.span_scores(weighted(values, script.times, grid, self.model.saved), lengths)
        best = spans.max(1)
        scored = share_of(best)
        if self.model.saved["head_trained"]:
            scored = np.where(np.isfinite(best), 1 / (1 + np.exp(-found.alignable)), 0.0)
        alignable = np.isfinite(best) & (scored >= (self.least or 0.0))
        starts = decode.free(spans)
        if self.config.order == "monotone" and alignable.any():
            starts[alignable] = decode.in_order(spans[alignable])
        moments = grid.centers(size)[decode.peaks(values, starts, lengths)]
        begins = grid.centers(size)[starts] - grid.stride_s / 2
        sentences = []
        for k, text in enumerate(script.texts):
            begin = max(0.0, float(begins[k]))
            given = None if script.times is None else script.times[k]
            end = begin + script.durations[k]
            sentences.append(Aligned(text, begin, end, float(moments[k]), float(scored[k]), bool(alignable[k]), given))
        return self.alignment(opened, sentences, similarity=values, grid=grid, least=self.least, notes=self._notes(script))

    def _notes(self, script: Script) -> list[str]:
        cut = self.model.tokenizer.cut(script.texts) if self.model.tokenizer is not None else []
        if not cut:
            return []
        longest = self.model.tokenizer.longest
        return [f"{len(cut)} sentences have more than {longest} words, of which the first {longest} are read: '{cut[0][:40]}…'"]


def _saved(folder: Any, source: Input) -> Features:
    try:
        return folder.of(source.row)
    except FeatureError as error:
        raise InputError(error.message, error.hint) from None
