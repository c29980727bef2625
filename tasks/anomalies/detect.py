"""`vid detect-anomalies`: scores, intervals and outputs of any number of videos, by the training-free detector or a trained model."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.anomalies import intervals, training_free
from tasks.anomalies.config import DetectConfig
from tasks.anomalies.result import AnomalyDetection, FrameScores, as_record
from tasks.anomalies.training_free import NormalModel, NormalSource
from tasks.anomalies.writers import SUFFIXES, outputs, write_all
from tasks.core.clips.clips import duration_s, frame_range
from tasks.core.data.inputs import Input
from tasks.core.data.manifest import read_sources
from tasks.core.errors import InputError, UsageError
from tasks.core.files import make_folder
from tasks.core.metrics.anomalies import smoothed
from tasks.core.report.outputs import finished as outputs_finished
from tasks.core.reporter import Reporter
from tasks.core.video.children import each
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader

TRAINING_FREE = "training-free"
THRESHOLD = 0.5
"""Of the training-free detector: what one normal frame in a thousand reaches."""


@dataclass(frozen=True)
class Output:
    """What is written, and where.

    Attributes:
        folder: None: nothing is written. kinds: of `writers.SUFFIXES`; without `json` nothing tells later what the others were made with.
        overwrite: redo what is there.
    """

    folder: Path | None = None
    kinds: tuple[str, ...] = ("json",)
    overwrite: bool = False


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other or, without a model, in several processes.

    Normal footage is learned from once, before the first input, and not at all where every input was done before.

    Yields, in the order of the inputs:
        the record of `writers.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the outputs were there already.

    Raises:
        UsageError: settings that exclude each other, no such model, no place for results. InputError: normal footage that cannot be used.
    """
    detector = Detector(config)
    if config.model is not None and config.fusion == "paper" and config.fail_above is not None:
        reporter.warn("fusion 'paper' scores each video relative to itself, to which --fail-above can say little: --set fusion=standard")
    if output.folder is not None:
        make_folder(output.folder)
    again = output.folder is None or output.overwrite
    if detector.model is None and (again or any(finished(detector, output, source) is None for source in inputs)):
        detector.learn(reporter, min(1, workers))
    here = 0 if config.model else workers  # a model stays where its memory is
    work = partial(one, detector, output)
    yield from each(work, inputs, here, reporter, "detecting", "video", lambda source, reason: {"video": source.shown, "error": reason})


def one(detector: "Detector", output: Output, source: Input, advance: Callable[[int], None] = lambda n: None) -> dict[str, Any]:
    """Detects in one input and writes its outputs; returns its record."""
    if output.folder is not None and not output.overwrite and (record := finished(detector, output, source)) is not None:
        return record
    try:
        row, files = source.row, []
        with open_video(row.path, detector.config.decoder) as reader:
            detection = detector.detect(reader, source.shown, row.start_s, row.end_s, advance)
            if output.folder is not None:
                files = write_all(output.folder, source.name, detection, output.kinds, reader, advance)
    except VideoError as error:
        return {"video": source.shown, "error": error.reason}
    except (InputError, UsageError) as error:  # too short to learn from, or of another shape than the normal footage
        return {"video": source.shown, "error": error.message}
    return {**as_record(detection), "files": [str(path) for path in files]}


def finished(detector: "Detector", output: Output, source: Input) -> dict[str, Any] | None:
    """The record of an input whose outputs are all there, made with the same settings where a JSON file tells; else None."""
    wanted = outputs(output.folder, source.name, output.kinds)
    kept = output.folder / f"{source.name}{SUFFIXES['json']}"
    record = outputs_finished(wanted, kept, source.shown, detector.method, detector.settings, source.row.path)
    if record is not None and detector.config.fail_above is not None and "peak" not in record:
        return None  # only the JSON file tells how high the scores went
    return record


class Detector:
    """The training-free detector, or a model; can be sent to another process where there is no model.

    Attributes:
        method: `training-free` or the model as it was named. settings: recorded with every result.
    """

    def __init__(self, config: DetectConfig):
        self.config = config
        self.model: Any = None
        self.normal: NormalModel | None = None
        self.sources: list[NormalSource] = []
        shape = {"min_duration_s": config.min_duration_s, "join_gap_s": config.join_gap_s}
        if config.model is not None:
            if config.normal:
                raise UsageError("a model and normal footage exclude each other: the model has learned", "leave out --model or --normal")
            from tasks.anomalies.learned import LearnedDetector

            self.model = LearnedDetector(config.model, config)
            self.method = config.model
            self.settings = {**self.model.settings, **shape, "model_hash": _hash(self.model.config)}
            return
        self.sources = [NormalSource(row.path, row.start_s, row.end_s) for row in read_sources(config.normal)] if config.normal else []
        self.method = TRAINING_FREE
        learned_from = {"first_part": config.first_part}
        if self.sources:
            known = [(s.path, s.start_s, s.end_s, Path(s.path).stat().st_size if Path(s.path).exists() else None) for s in self.sources]
            learned_from = {"normal": list(config.normal), "normal_hash": _hash(known)}
        threshold = THRESHOLD if config.threshold is None else config.threshold
        self.settings = {"threshold": threshold, "smoothing_s": config.smoothing_s, **shape, **learned_from}

    def learn(self, reporter: Reporter, workers: int = 0) -> None:
        """Without a model: from the normal footage, if there is any; `workers` 1: in a process of its own, which may hang or crash."""
        if not self.sources:
            reporter.info(f"the first {100 * self.config.first_part:g} % of each video is taken as normal (--normal gives other footage)")
            return
        fit = partial(_fit, self.config.decoder)
        (found,) = each(fit, [self.sources], workers, reporter, "learning what is normal", "video", lambda sources, reason: reason)
        if isinstance(found, str):
            raise InputError(f"the normal footage cannot be read: {found}", "run: vid data check")
        for path, reason in found.skipped:
            reporter.warn(f"normal footage left out: {path}: {reason}")
        self.normal = found

    def detect(
        self, reader: VideoReader, shown: str, start_s: float | None, end_s: float | None, advance: Callable[[int], None]
    ) -> AnomalyDetection:
        """Everything found in an open video, or in the part of it with start_s <= t < end_s."""
        start, stop = frame_range(reader.pts, start_s, end_s)
        part = reader.pts[start:stop]
        length_s = duration_s(part, reader.fps)
        if self.model is not None:
            scores, notes = self.model.score(reader, advance, start_s, end_s), self.model.notes(reader)
        else:
            scores, notes = self._embedded(reader, start, stop, float(part[0]), length_s, advance)
        following = int(scores.frame[-1]) + 1 if len(scores) else stop  # the last frames may have no score
        ends = float(reader.pts[following]) if following < stop else float(part[0]) + length_s
        rules = (self.settings["threshold"], ends, self.config.min_duration_s, self.config.join_gap_s)
        return AnomalyDetection(
            path=shown,
            method=self.method,
            settings=self.settings,
            n_frames=reader.n_frames,
            fps=float(reader.fps),
            duration_s=length_s,
            start_s=float(part[0]),
            width=reader.width,
            height=reader.height,
            scores=scores,
            intervals=intervals.find(scores, *rules),
            notes=notes,
            damage=reader.damage,
        )

    def _embedded(
        self, reader: VideoReader, start: int, stop: int, start_s: float, length_s: float, advance: Callable[[int], None]
    ) -> tuple[FrameScores, list[str]]:
        model, notes = self.normal, list(training_free.NOTES)
        if model is None:
            first_s = self.config.first_part * length_s
            model = training_free.fit([NormalSource(reader.path, start_s, start_s + first_s)], advance, self.config.decoder)
            notes.append(f"the first {first_s:.1f} s were taken as normal: the detector learned from them, so their own scores say little")
        scores = training_free.score_video(model, reader, advance, start, stop)
        if self.config.smoothing_s:
            scores = replace(scores, score=smoothed(scores.score, scores.t, self.config.smoothing_s).astype(np.float32))
        return scores, notes


def _fit(decoder: str, sources: list[NormalSource], advance: Callable[[int], None]) -> NormalModel:
    return training_free.fit(sources, advance, decoder)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
