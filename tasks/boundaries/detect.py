"""`vid detect-boundaries`: boundaries of any number of videos, each on its own, by the training-free detector or a trained model."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.boundaries import training_free
from tasks.boundaries.config import DetectConfig, MergeConfig
from tasks.boundaries.merge import merge
from tasks.boundaries.result import Boundary, Detection, Scores, as_record
from tasks.boundaries.scores import SUFFIX, read_scores, write_scores
from tasks.boundaries.writers import SUFFIXES, outputs, write_all
from tasks.core.clips.clips import duration_s, frame_range
from tasks.core.data.inputs import Input, path_hash
from tasks.core.errors import InputError, UsageError
from tasks.core.report.outputs import finished as outputs_finished
from tasks.core.reporter import Reporter
from tasks.core.video.children import each
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader

TRAINING_FREE = "training-free"
THUMBNAIL_PX = 112
PUBLISHED = {"threshold": 0.5, "min_gap_s": 0.5}
"""Settings of the training-free detector where none are given."""


@dataclass(frozen=True)
class Output:
    """What is written, and where.

    Attributes:
        folder: None: nothing is written. kinds: of `writers.SUFFIXES`. scores: keep the scores too. overwrite: redo what is there.
    """

    folder: Path | None = None
    kinds: tuple[str, ...] = ("json",)
    scores: bool = False
    overwrite: bool = False


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other or, without a model, in several processes.

    Yields, in the order of the inputs:
        the record of `writers.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the outputs were there already.
    """
    detector = Detector(config)
    work = partial(one, detector, output)
    here = 0 if config.model else workers  # a model stays where its memory is
    yield from each(work, inputs, here, reporter, "detecting", "video", lambda source, reason: {"video": source.shown, "error": reason})


def one(detector: "Detector", output: Output, source: Input, advance: Callable[[int], None] = lambda n: None) -> dict[str, Any]:
    """Detects in one input and writes its outputs; returns its record."""
    if output.folder is not None and not output.overwrite and (record := finished(detector, output, source)) is not None:
        return record
    try:
        row = source.row
        with open_video(row.path, detector.config.decoder) as reader:
            detection = detector.detect(reader, source.shown, row.start_s, row.end_s, advance)
            files = write(output, source.name, detection, reader, advance)
    except VideoError as error:
        return {"video": source.shown, "error": error.reason}
    return {**as_record(detection), "files": files}


def finished(detector: "Detector", output: Output, source: Input) -> dict[str, Any] | None:
    """The record of an input whose outputs are all there, made with the same settings where a JSON file tells; else None."""
    return _there(output, source.name, source.shown, detector.method, detector.settings, source.row.path)


def _there(output: Output, name: str, shown: str, method: str, settings: dict[str, Any], video: str) -> dict[str, Any] | None:
    wanted = outputs(output.folder, name, output.kinds)
    wanted += [output.folder / f"{name}{SUFFIX}"] if output.scores else []
    return outputs_finished(wanted, output.folder / f"{name}{SUFFIXES['json']}", shown, method, settings, video)


def write(
    output: Output, name: str, detection: Detection, reader: VideoReader | None, advance: Callable[[int], None] = lambda n: None
) -> list[str]:
    """Writes what `output` asks for; the report gets pictures where there is a reader. `advance(0)` is called while they are fetched."""
    if output.folder is None:
        return []
    thumbnails = None
    if reader is not None and "html" in output.kinds:
        from tasks.boundaries.report import thumbnail_frames

        pairs = np.array(thumbnail_frames(detection), np.int64).reshape(-1, 2)
        numbers, back = np.unique(pairs, return_inverse=True)
        pictures: list[np.ndarray] = []
        for first in range(0, len(numbers), 16):
            pictures += list(reader.get(numbers[first : first + 16], min(THUMBNAIL_PX, reader.height, reader.width)))
            advance(0)
        thumbnails = [(pictures[a], pictures[b]) for a, b in back.reshape(-1, 2)]
    written = write_all(output.folder, name, detection, output.kinds, thumbnails)
    if output.scores:
        write_scores(output.folder / f"{name}{SUFFIX}", detection)
        written.append(output.folder / f"{name}{SUFFIX}")
    return [str(path) for path in written]


def from_scores(config: DetectConfig, files: list[Path], output: Output, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Boundaries and outputs anew from files of scores; records as `run`. The report gets pictures where the video can be read."""
    stems = Counter(file.name for file in files)
    for file in files:
        try:
            kept = read_scores(file)
        except InputError as error:
            yield {"video": str(file), "error": error.message.removeprefix(f"{file}: ")}
            continue
        detection = boundaries_of(kept, config)
        name = file.name.removesuffix(SUFFIX)
        if stems[file.name] > 1:
            name += f"-{path_hash(file)}"
        known = None
        if output.folder is not None and not output.overwrite:
            known = _there(output, name, kept.path, detection.method, detection.settings, kept.file)
        yield known or {**as_record(detection), "files": _write_again(output, name, detection, config, reporter)}


def _write_again(output: Output, name: str, detection: Detection, config: DetectConfig, reporter: Reporter) -> list[str]:
    if output.folder is None or "html" not in output.kinds:
        return write(output, name, detection, None)
    try:
        with open_video(detection.file, config.decoder) as reader:
            if (reader.n_frames, reader.height, reader.width) == (detection.n_frames, detection.height, detection.width):
                return write(output, name, detection, reader)
            reporter.warn(f"{name}: report without pictures: {detection.file} is another video now")
    except VideoError as error:
        reporter.warn(f"{name}: report without pictures: {error.message}")
    return write(output, name, detection, None)


def score_files(sources: list[str]) -> list[Path]:
    """Files of scores: as named, or those directly in a folder; InputError where a folder holds none."""
    found = []
    for source in map(Path, sources):
        inside = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else [source]
        if not inside:
            raise InputError(f"{source}: no scores in this folder", "--save-scores writes them")
        found += inside
    return list({os.path.realpath(file): file for file in found}.values())


def boundaries_of(kept: Detection, config: DetectConfig) -> Detection:
    """A detection with boundaries by the rule of its method; what `config` leaves open is as it was when the scores were made.

    Raises:
        UsageError: a setting of another method was given.
    """
    settings = dict(kept.settings)
    if kept.method == TRAINING_FREE:
        _refuse_without_model(config)
        given = {"threshold": config.threshold, "min_gap_s": config.min_gap_s}
        settings |= {key: value for key, value in given.items() if value is not None}
    else:
        _refuse_with_model(config)
        settings |= merging(config, {**settings["merge"], "threshold": settings["threshold"]})
    return replace(kept, settings=settings, boundaries=boundaries_from_scores(kept.scores, kept.method, settings))


def merging(config: DetectConfig, published: dict[str, Any]) -> dict[str, Any]:
    """`threshold` and `merge` as they are recorded: what was published, with what `config` sets in its place."""
    rules = {**published, **(config.merge.model_dump(exclude_unset=True) if config.merge else {})}
    threshold = rules.pop("threshold")
    return {"threshold": threshold if config.threshold is None else config.threshold, "merge": rules}


def _refuse_without_model(config: DetectConfig) -> None:
    for key, name in (("merge", "merge.*"), ("device", "--device"), ("batch_size", "--batch-size")):
        if getattr(config, key) != DetectConfig.model_fields[key].default:
            raise UsageError(
                f"{name} belongs to a trained model, and there is none here", "the training-free detector has --threshold and --min-gap"
            )


def _refuse_with_model(config: DetectConfig) -> None:
    if config.min_gap_s is not None:
        raise UsageError("--min-gap belongs to the training-free detector", "with a model: --set merge.window_s=SECONDS")


def boundaries_from_scores(scores: Scores, method: str, settings: dict[str, Any]) -> list[Boundary]:
    """Boundaries from scores under settings as they are recorded."""
    if method == TRAINING_FREE:
        return training_free.pick(scores, settings["threshold"], settings["min_gap_s"])
    return merge(scores, MergeConfig(**{**settings["merge"], "threshold": settings["threshold"]}))


class Detector:
    """The training-free detector, or a model; can be sent to another process where there is no model.

    Attributes:
        method: `training-free` or the model as it was named. settings: recorded with every result.
    """

    def __init__(self, config: DetectConfig):
        self.config = config
        self.model = None
        if config.model is None:
            _refuse_without_model(config)
            self.method = TRAINING_FREE
            given = {"threshold": config.threshold, "min_gap_s": config.min_gap_s}
            self.settings = {**PUBLISHED, **{key: value for key, value in given.items() if value is not None}}
            return
        from tasks.boundaries.learned import LearnedScorer

        _refuse_with_model(config)
        self.model = LearnedScorer(config.model, config.device, config.batch_size)
        self.method = config.model
        self.settings = {**merging(config, self.model.merge.model_dump()), "model_hash": self.model.weights_hash}

    def detect(
        self, reader: VideoReader, shown: str, start_s: float | None, end_s: float | None, advance: Callable[[int], None]
    ) -> Detection:
        """Everything found in an open video, or in the part of it with start_s <= t < end_s."""
        start, stop = frame_range(reader.pts, start_s, end_s)
        if self.model is None:
            scores = training_free.score_video(reader, advance, start, stop)
        else:
            scores = self.model.score(reader, advance, start_s, end_s)
        part = reader.pts[start:stop]
        return Detection(
            path=shown,
            method=self.method,
            settings=self.settings,
            n_frames=reader.n_frames,
            fps=float(reader.fps),
            duration_s=duration_s(part, reader.fps),
            start_s=float(part[0]),
            width=reader.width,
            height=reader.height,
            scores=scores,
            boundaries=boundaries_from_scores(scores, self.method, self.settings),
            damage=reader.damage,
            part=None if start_s is None and end_s is None else (start_s, end_s),
            file_start_s=float(reader.pts[0]),
            file=os.path.abspath(reader.path),
        )
