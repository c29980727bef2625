"""`vid detect-anomalies`: scores, intervals and outputs of any number of videos, by the training-free detector or a trained model."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tasks.anomalies import intervals, training_free
from tasks.anomalies.config import DetectConfig
from tasks.anomalies.result import AnomalyDetection, FrameScores, as_record
from tasks.anomalies.training_free import NormalModel, NormalSource
from tasks.anomalies.writers import SUFFIXES, write_file
from tasks.core.data.inputs import Input
from tasks.core.data.manifest import read_sources
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.detector import Detector, Footage, detect_all
from tasks.core.inference.loop import Advance, still
from tasks.core.inference.output import Output
from tasks.core.metrics.anomalies import smoothed
from tasks.core.reporter import Reporter
from tasks.core.video.children import each

TRAINING_FREE = "training-free"
THRESHOLD = 0.5
"""Of the training-free detector: what one normal frame in a thousand reaches."""
Piece = TypeVar("Piece")


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other or, without a model, in several processes.

    Normal footage is learned from once, before the first input, and not at all where every input was done before.

    Yields, in the order of the inputs:
        the record of `result.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the outputs were made before.

    Raises:
        UsageError: settings that exclude each other, no such model, no place for results.
        InputError: normal footage that cannot be used.
    """
    detector = TrainingFreeDetector(config) if config.model is None else ModelDetector(config)
    if config.model is not None and config.fusion == "paper" and config.fail_above is not None:
        reporter.warn("fusion 'paper' scores each video relative to itself, to which --fail-above can say little: --set fusion=standard")
    yield from detect_all(detector, inputs, output, workers, reporter)


class AnomalyDetector(Detector[Footage, Piece, AnomalyDetection]):
    """What both have in common: intervals from scores, and files."""

    suffixes = SUFFIXES

    def __init__(self, config: DetectConfig):
        self.config, self.decoder = config, config.decoder
        self.shape = {"min_duration_s": config.min_duration_s, "join_gap_s": config.join_gap_s}

    @abstractmethod
    def frame_scores(self, opened: Footage, scores: Iterator[Piece]) -> FrameScores:
        """Scores of frames from what `score` yields."""

    @abstractmethod
    def notes(self, opened: Footage) -> list[str]:
        """What a reader of the scores must know."""

    def finish(self, opened: Footage, scores: Iterator[Piece]) -> AnomalyDetection:
        found = self.frame_scores(opened, scores)
        following = int(found.frame[-1]) + 1 if len(found) else opened.stop  # the last frames may have no score
        ends = float(opened.reader.pts[following]) if following < opened.stop else opened.first_s + opened.duration_s
        return AnomalyDetection(
            method=self.method,
            settings=self.settings,
            scores=found,
            intervals=intervals.find(found, self.settings["threshold"], ends, **self.shape),
            notes=self.notes(opened),
            **opened.facts(),
        )

    def record(self, result: AnomalyDetection) -> dict[str, Any]:
        return as_record(result)

    def write(self, kind: str, path: Path, result: AnomalyDetection, opened: Footage, advance: Advance = still) -> None:
        write_file(kind, path, result, opened.reader, advance)


class TrainingFreeDetector(AnomalyDetector[FrameScores]):
    """`training_free`, on the CPU: learns from normal footage in `prepare`, or from the first part of each video.

    Attributes:
        normal: what was learned from normal footage, if there is any.
    """

    method, portable = TRAINING_FREE, True

    def __init__(self, config: DetectConfig):
        super().__init__(config)
        self.normal: NormalModel | None = None
        self.sources = [NormalSource(row.path, row.start_s, row.end_s) for row in read_sources(config.normal)] if config.normal else []
        learned_from = {"first_part": config.first_part}
        if self.sources:
            known = [(s.path, s.start_s, s.end_s, Path(s.path).stat().st_size if Path(s.path).exists() else None) for s in self.sources]
            learned_from = {"normal": list(config.normal), "normal_hash": _hash(known)}
        for flag, limit in (("--threshold", config.threshold), ("--fail-above", config.fail_above)):
            if limit is not None and not 0 <= limit <= 1:
                raise UsageError(
                    f"{flag} {limit:g}: without a model scores lie between 0 and 1", "0.5 is what one normal frame in a thousand reaches"
                )
        threshold = THRESHOLD if config.threshold is None else config.threshold
        self.settings = {"threshold": threshold, "smoothing_s": config.smoothing_s, **self.shape, **learned_from}

    def prepare(self, reporter: Reporter, workers: int = 0) -> None:
        if not self.sources:
            reporter.info(f"the first {100 * self.config.first_part:g} % of each video is taken as normal (--normal gives other footage)")
            return
        fit = partial(_fit, self.decoder)
        (found,) = each(fit, [self.sources], min(1, workers), reporter, "learning what is normal", "video", lambda sources, reason: reason)
        if isinstance(found, str):
            raise InputError(f"the normal footage cannot be read: {found}", "run: vid data check")
        for path, reason in found.skipped:
            reporter.warn(f"normal footage left out: {path}: {reason}")
        self.normal = found

    def score(self, opened: Footage, advance: Advance = still) -> Iterator[FrameScores]:
        model = self.normal
        if model is None:
            first = NormalSource(opened.reader.path, opened.first_s, opened.first_s + self._first_s(opened))
            model = training_free.fit([first], lambda n: advance(0), self.decoder)  # these frames are scored, and counted, below
        yield training_free.score_video(model, opened.reader, advance, opened.start, opened.stop)

    def frame_scores(self, opened: Footage, scores: Iterator[FrameScores]) -> FrameScores:
        (found,) = scores
        if not self.config.smoothing_s:
            return found
        return replace(found, score=smoothed(found.score, found.t, self.config.smoothing_s).astype(np.float32))

    def notes(self, opened: Footage) -> list[str]:
        if self.sources:
            return list(training_free.NOTES)
        seconds = f"the first {self._first_s(opened):.1f} s were taken as normal"
        return [*training_free.NOTES, f"{seconds}: the detector learned from them, so their own scores say little"]

    def _first_s(self, opened: Footage) -> float:
        return self.config.first_part * opened.duration_s


class ModelDetector(AnomalyDetector["Raw"]):
    """A model of `vid pretrain`; UsageError where there is none, or normal footage is given."""

    def __init__(self, config: DetectConfig):
        super().__init__(config)
        if config.normal:
            raise UsageError("a model and normal footage exclude each other: the model has learned", "leave out --model or --normal")
        from tasks.anomalies.learned import LearnedScorer

        self.scorer = LearnedScorer(config.model, config)
        self.method = config.model
        self.settings = {**self.scorer.settings, **self.shape, "model_hash": _hash(self.scorer.config)}

    def score(self, opened: Footage, advance: Advance = still) -> Iterator[Any]:
        yield self.scorer.raw(opened.reader, advance, opened.start_s, opened.end_s)

    def frame_scores(self, opened: Footage, scores: Iterator[Any]) -> FrameScores:
        (raw,) = scores
        return self.scorer.fused(raw, opened.reader.pts[raw.frame])

    def notes(self, opened: Footage) -> list[str]:
        return self.scorer.notes(opened.reader)


def _fit(decoder: str, sources: list[NormalSource], advance: Advance) -> NormalModel:
    return training_free.fit(sources, advance, decoder)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
