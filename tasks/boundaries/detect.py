"""`vid detect-boundaries`: boundaries of any number of videos, each on its own, by the embedded detector or a trained model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.boundaries import embedded
from tasks.boundaries.config import DetectConfig, MergeConfig
from tasks.boundaries.merge import merge
from tasks.boundaries.result import Boundary, Detection, Scores
from tasks.boundaries.scores import SUFFIX, read_scores, write_scores
from tasks.boundaries.writers import SUFFIXES, as_record, outputs, write_all
from tasks.core.errors import InputError
from tasks.core.report.outputs import finished as outputs_finished
from tasks.core.video.children import each
from tasks.core.video.clips import frame_range
from tasks.core.video.inputs import Input
from tasks.core.video.reader import VideoError, VideoReader, open_video

EMBEDDED = "embedded"
THUMBNAIL_PX = 112


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


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, talk: Any) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other or, without a model, in several processes.

    Yields, in the order of the inputs:
        the record of `writers.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the outputs were there already.
    """
    detector = Detector(config)
    work = partial(one, detector, output)
    here = 0 if config.model else workers  # a model stays where its memory is
    yield from each(work, inputs, here, talk, "detecting", "video", lambda source, reason: {"video": source.shown, "error": reason})


def one(detector: "Detector", output: Output, source: Input, advance: Callable[[int], None] = lambda n: None) -> dict[str, Any]:
    """Detects in one input and writes its outputs; returns its record."""
    if output.folder is not None and not output.overwrite and (record := finished(detector, output, source)) is not None:
        return record
    try:
        row = source.row
        with open_video(row.path, detector.config.decoder) as reader:
            detection = detector.detect(reader, source.shown, row.start_s, row.end_s, advance)
            files = write(output, source.name, detection, reader)
    except VideoError as error:
        return {"video": source.shown, "error": error.reason}
    return {**as_record(detection), "files": files}


def finished(detector: "Detector", output: Output, source: Input) -> dict[str, Any] | None:
    """The record of an input whose outputs are all there, made with the same settings where a JSON file tells; else None."""
    wanted = outputs(output.folder, source.name, output.kinds)
    wanted += [output.folder / f"{source.name}{SUFFIX}"] if output.scores else []
    kept = output.folder / f"{source.name}{SUFFIXES['json']}"
    return outputs_finished(wanted, kept, source.shown, detector.method, detector.settings)


def write(output: Output, name: str, detection: Detection, reader: VideoReader | None) -> list[str]:
    """Writes what `output` asks for; the report gets pictures where there is a reader."""
    if output.folder is None:
        return []
    thumbnails = None
    if reader is not None and "html" in output.kinds:
        from tasks.boundaries.report import thumbnail_frames

        pairs = np.array(thumbnail_frames(detection), np.int64).reshape(-1, 2)
        numbers, back = np.unique(pairs, return_inverse=True)
        pictures = reader.get(numbers, min(THUMBNAIL_PX, reader.height, reader.width)) if len(numbers) else []
        thumbnails = [(pictures[a], pictures[b]) for a, b in back.reshape(-1, 2)]
    written = write_all(output.folder, name, detection, output.kinds, thumbnails)
    if output.scores:
        write_scores(output.folder / f"{name}{SUFFIX}", detection)
        written.append(output.folder / f"{name}{SUFFIX}")
    return [str(path) for path in written]


def from_scores(config: DetectConfig, files: list[Path], output: Output) -> Iterator[dict[str, Any]]:
    """Boundaries and outputs anew from files of scores; records as `run`. The report gets pictures where the video can be read."""
    for file in files:
        try:
            kept = read_scores(file)
        except InputError as error:
            yield {"video": str(file), "error": error.message}
            continue
        detection = boundaries_of(kept, config)
        name = file.name.removesuffix(SUFFIX)
        try:
            with open_video(kept.path, config.decoder) as reader:
                same = reader if reader.n_frames == kept.n_frames else None
                written = write(output, name, detection, same)
        except VideoError:
            written = write(output, name, detection, None)
        yield {**as_record(detection), "files": written}


def score_files(sources: list[str]) -> list[Path]:
    """Files of scores: as named, or those directly in a folder; InputError where a folder holds none."""
    found = []
    for source in map(Path, sources):
        inside = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else [source]
        if not inside:
            raise InputError(f"{source}: no scores in this folder", "--save-scores writes them")
        found += inside
    return found


def boundaries_of(kept: Detection, config: DetectConfig) -> Detection:
    """A detection with boundaries by the rule of its method; what `config` leaves open is as it was when the scores were made."""
    settings = dict(kept.settings)
    if config.threshold is not None:
        settings["threshold"] = config.threshold
    if kept.method == EMBEDDED:
        if "min_gap_s" in config.model_fields_set:
            settings["min_gap_s"] = config.min_gap_s
    elif config.merge is not None:
        settings["merge"] = config.merge.model_dump()
    return replace(kept, settings=settings, boundaries=made_of(kept.scores, kept.method, settings))


def made_of(scores: Scores, method: str, settings: dict[str, Any]) -> list[Boundary]:
    """Boundaries from scores under settings as they are recorded."""
    if method == EMBEDDED:
        return embedded.pick(scores, settings["threshold"], settings["min_gap_s"])
    return merge(scores, MergeConfig(**{**settings["merge"], "threshold": settings["threshold"]}))


class Detector:
    """The embedded detector, or a model; can be sent to another process where there is no model.

    Attributes:
        method: `embedded` or the model as it was named. settings: recorded with every result.
    """

    def __init__(self, config: DetectConfig):
        self.config = config
        self.model = None
        if config.model is None:
            self.method = EMBEDDED
            self.settings = {"threshold": 0.5 if config.threshold is None else config.threshold, "min_gap_s": config.min_gap_s}
            return
        from tasks.boundaries.learned import LearnedScorer

        self.model = LearnedScorer(config.model, None if config.device == "auto" else config.device, config.batch_size)
        rules = (config.merge or self.model.merge).model_dump()
        threshold = rules.pop("threshold") if config.threshold is None else config.threshold
        rules.pop("threshold", None)
        self.method = config.model
        self.settings = {"threshold": threshold, "merge": rules}

    def detect(
        self, reader: VideoReader, shown: str, start_s: float | None, end_s: float | None, advance: Callable[[int], None]
    ) -> Detection:
        """Everything found in an open video, or in the part of it with start_s <= t < end_s."""
        start, stop = frame_range(reader.pts, start_s, end_s)
        if self.model is None:
            scores = embedded.score_video(reader, advance, start, stop)
        else:
            scores = self.model.score(reader, advance, start_s, end_s)
        part = reader.pts[start:stop]
        last = float(np.median(np.diff(part))) if len(part) > 1 else 1 / (reader.fps or 25.0)
        return Detection(
            path=shown,
            method=self.method,
            settings=self.settings,
            n_frames=reader.n_frames,
            fps=float(reader.fps),
            duration_s=float(part[-1] - part[0]) + last,
            start_s=float(part[0]),
            width=reader.width,
            height=reader.height,
            scores=scores,
            boundaries=made_of(scores, self.method, self.settings),
            damage=reader.damage,
        )
