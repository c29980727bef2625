"""`vid detect-boundaries`: three ways to scores (training-free, a model, saved before) and one way from there to boundaries and files."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks.boundaries import training_free
from tasks.boundaries.config import DetectConfig, MergeConfig
from tasks.boundaries.merge import merge
from tasks.boundaries.result import Boundary, Detection, Scores, as_record
from tasks.boundaries.scores import read_scores, saved_in
from tasks.boundaries.writers import SUFFIXES, write_file
from tasks.core.data.inputs import Input, path_hash
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.detector import Detector, Footage, detect_all, detect_one
from tasks.core.inference.loop import Advance, each_input, failure, still
from tasks.core.inference.output import Output
from tasks.core.reporter import Reporter
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError

TRAINING_FREE = "training-free"
PUBLISHED = {"threshold": 0.5, "min_gap_s": 0.5}
"""Settings of the training-free detector where none are given."""


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other or, without a model, in several processes.

    Yields, in the order of the inputs:
        the record of `result.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the outputs were made before.
    """
    detector = TrainingFreeDetector(config) if config.model is None else ModelDetector(config)
    yield from detect_all(detector, inputs, output, workers, reporter)


def run_from_scores(config: DetectConfig, inputs: list[Input], output: Output, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Boundaries and outputs anew from saved scores; records as `run`. The report gets pictures where the video can be read.

    Args:
        config: what it leaves open is as it was when the scores were made.
        inputs: files of scores, see `saved_inputs`.
        output: what is written, and where.
        reporter: told of videos that cannot be read any more.
    """
    yield from each_input(partial(_from_scores, config, output, reporter), inputs, 0, reporter, "reading scores", "file")


def saved_inputs(sources: list[str]) -> list[Input]:
    """Files of scores, as named or those directly in a folder; outputs are called as before, with a hash where two have the same name.

    Raises:
        InputError: a folder without scores.
    """
    found: dict[str, tuple[str, Path]] = {}
    for source in map(Path, sources):
        for stem, file in saved_in(source):
            found.setdefault(os.path.realpath(file), (stem, file))
    stems = Counter(stem for stem, _ in found.values())
    return [Input(Row(str(file)), str(file), stem if stems[stem] == 1 else f"{stem}-{path_hash(file)}") for stem, file in found.values()]


def boundaries_from_scores(scores: Scores, method: str, settings: dict[str, Any]) -> list[Boundary]:
    """Boundaries from scores under settings as they are recorded."""
    if method == TRAINING_FREE:
        found = training_free.pick(scores, settings["threshold"], settings["min_gap_s"])
        return [boundary for boundary in found if not settings.get("only") or f"{boundary.kind}s" in settings["only"]]
    return merge(scores, MergeConfig(**{**settings["merge"], "threshold": settings["threshold"]}))


class BoundaryDetector(Detector[Footage, Scores, Detection]):
    """What all three have in common: boundaries from scores by the rule of the method, and files."""

    suffixes = SUFFIXES

    def finish(self, opened: Footage, scores: Iterator[Scores]) -> Detection:
        joined = Scores.join(scores)
        return Detection(
            method=self.method,
            settings=self.settings,
            scores=joined,
            boundaries=boundaries_from_scores(joined, self.method, self.settings),
            part=None if opened.start_s is None and opened.end_s is None else (opened.start_s, opened.end_s),
            file_start_s=float(opened.reader.pts[0]),
            file=os.path.abspath(opened.reader.path),
            **opened.facts(),
        )

    def record(self, result: Detection) -> dict[str, Any]:
        return as_record(result)

    def write(self, kind: str, path: Path, result: Detection, opened: Footage, advance: Advance = still) -> None:
        write_file(kind, path, result, opened.reader, advance)


class TrainingFreeDetector(BoundaryDetector):
    """`training_free`, on the CPU; UsageError where settings of a model are given."""

    method, portable = TRAINING_FREE, True

    def __init__(self, config: DetectConfig):
        self.settings, self.decoder = training_free_settings(config, PUBLISHED), config.decoder

    def score(self, opened: Footage, advance: Advance = still) -> Iterator[Scores]:
        yield training_free.score_video(opened.reader, advance, opened.start, opened.stop)


class ModelDetector(BoundaryDetector):
    """A model of `vid finetune`; UsageError where settings of the training-free detector are given, or there is no such model."""

    def __init__(self, config: DetectConfig):
        from tasks.boundaries.learned import LearnedScorer

        _refuse_training_free(config)
        self.scorer = LearnedScorer(config.model, config.device, config.batch_size)
        self.method, self.decoder = config.model, config.decoder
        self.settings = {**model_settings(config, self.scorer.merge.model_dump()), "model_hash": self.scorer.weights_hash}

    def score(self, opened: Footage, advance: Advance = still) -> Iterator[Scores]:
        yield from self.scorer.windows(opened.reader, advance, opened.start_s, opened.end_s)


class SavedScores(BoundaryDetector):
    """The scores of one video, saved by either of the others; UsageError where a setting is given that its method does not have.

    Args:
        saved: what the file holds.
        config: in place of the saved settings.
        reporter: told where there are no pictures for the report.
    """

    def __init__(self, saved: Detection, config: DetectConfig, reporter: Reporter):
        self.saved, self.decoder, self.reporter = saved, config.decoder, reporter
        self.method = saved.method
        if saved.method == TRAINING_FREE:
            changed = training_free_settings(config, saved.settings)
            if config.only and saved.scores.kind is None:
                raise UsageError(f"{saved.path}: these scores of an earlier version tell no kinds", "detect again with --save-scores")
        else:
            _refuse_training_free(config)
            changed = model_settings(config, {**saved.settings["merge"], "threshold": saved.settings["threshold"]})
        self.settings = {**saved.settings, **changed}

    def open(self, source: Input) -> AbstractContextManager[Detection]:
        return nullcontext(self.saved)

    def score(self, opened: Detection, advance: Advance = still) -> Iterator[Scores]:
        yield opened.scores

    def finish(self, opened: Detection, scores: Iterator[Scores]) -> Detection:
        found = boundaries_from_scores(Scores.join(scores), self.method, self.settings)
        return replace(opened, settings=self.settings, boundaries=found)

    def write(self, kind: str, path: Path, result: Detection, opened: Detection, advance: Advance = still) -> None:
        if kind != "html":
            write_file(kind, path, result, None, advance)
            return
        try:
            with open_video(opened.file, self.decoder) as reader:
                same = (reader.n_frames, reader.height, reader.width) == (opened.n_frames, opened.height, opened.width)
                if not same:
                    self.reporter.warn(f"{path.name}: report without pictures: {opened.file} is another video now")
                write_file(kind, path, result, reader if same else None, advance)
        except VideoError as error:
            self.reporter.warn(f"{path.name}: report without pictures: {error.message}")
            write_file(kind, path, result, None, advance)


def _from_scores(config: DetectConfig, output: Output, reporter: Reporter, source: Input, advance: Advance) -> dict[str, Any]:
    try:
        saved = read_scores(Path(source.row.path))
    except InputError as error:
        return failure(source, error)
    video = Input(Row(saved.file), saved.path, source.name)
    return detect_one(SavedScores(saved, config, reporter), output, video, advance)


def training_free_settings(config: DetectConfig, published: dict[str, Any]) -> dict[str, Any]:
    """`threshold`, `min_gap_s` and `only` as they are recorded: what was published, with what `config` sets in its place.

    Raises:
        UsageError: a setting of a model was given.
    """
    for key, name in (("merge", "merge.*"), ("device", "--device"), ("batch_size", "--batch-size")):
        if getattr(config, key) != DetectConfig.model_fields[key].default:
            raise UsageError(
                f"{name} belongs to a trained model, and there is none here", "the training-free detector has --threshold and --min-gap"
            )
    given = {"threshold": config.threshold, "min_gap_s": config.min_gap_s, "only": config.only and sorted(set(config.only))}
    return {**published, **{key: value for key, value in given.items() if value is not None}}


def model_settings(config: DetectConfig, published: dict[str, Any]) -> dict[str, Any]:
    """`threshold` and `merge` as they are recorded: what was published, with what `config` sets in its place."""
    rules = {**published, **(config.merge.model_dump(exclude_unset=True) if config.merge else {})}
    threshold = rules.pop("threshold")
    return {"threshold": threshold if config.threshold is None else config.threshold, "merge": rules}


def _refuse_training_free(config: DetectConfig) -> None:
    """UsageError where a setting of the training-free detector was given."""
    if config.only is not None:
        raise UsageError("--only belongs to the training-free detector: a model does not tell kinds apart")
    if config.min_gap_s is not None:
        raise UsageError("--min-gap belongs to the training-free detector", "with a model: --set merge.window_s=SECONDS")
