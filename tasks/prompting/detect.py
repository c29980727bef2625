"""`vid detect-events` by the names of classes: the proposals of another detector get a class each."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.feature_files import FeatureError
from tasks.core.data.feature_record import check_record, open_like
from tasks.core.data.features import FeatureFolder
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.device import usable_device
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.detector import Detector, Footage, detect_all, open_footage
from tasks.core.inference.loop import Advance, still
from tasks.core.inference.output import Output
from tasks.core.report.event_writers import SUFFIXES, write_file
from tasks.core.report.events import Curves, EventDetection, as_record, best_half
from tasks.core.reporter import Reporter
from tasks.prompting.config import DetectConfig, FramesConfig
from tasks.prompting.dense import Matcher, means_inside
from tasks.prompting.events import Proposals, classified, read_proposals
from tasks.prompting.method import zero_shot_features
from tasks.prompting.names import words_of
from tasks.prompting.opened import Opened, open_model
from tasks.prompting.predict import text_of
from tasks.prompting.towers import STREAM, frame_maker

MIN_SCORE = 0.001
"""Least score of an event where none is said."""


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other.

    Yields, in the order of the inputs:
        the record of `core.report.events.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the files were made before.

    Raises:
        UsageError: no model, no classes, or features that are not those of the model.
        InputError: the proposals cannot be read, or are of other videos; the names of the classes cannot be told apart.
    """
    proposals = read_proposals(config.proposals, list(dict.fromkeys(source.row.path for source in inputs)), reporter)
    yield from detect_all(ProposalClassifier(config, proposals, reporter), inputs, output, workers, reporter)


@dataclass(frozen=True)
class Watched:
    """An open video by its path, where its features lie, and the features (n, dim) block after block."""

    path: str
    footage: Footage
    grid: Grid
    blocks: Iterator[np.ndarray]


class ProposalClassifier(Detector[Watched, np.ndarray, EventDetection]):
    """Gives proposals classes by the names of these: the score of an event is that of its proposal times the probability of the class.

    Args:
        config: settings.
        proposals: in the videos, by their paths.
        reporter: told of names that are cut.

    Raises:
        UsageError, InputError: see `run`.
    """

    suffixes = SUFFIXES

    def __init__(self, config: DetectConfig, proposals: Proposals, reporter: Reporter):
        self.config, self.decoder, self.method, self.proposals = config, config.decoder, config.model, proposals
        self.min_score = MIN_SCORE if config.min_score is None else config.min_score
        opened = open_model(config, usable_device(config.device))
        self.labels, names = classes_of(config, opened)
        if opened.model is None:
            self.matcher = Matcher(zero_shot_features(opened.tower, names, config.template, reporter), opened.temperature)
        else:
            text = text_of(opened.model, opened.tower, names, reporter)
            self.matcher = Matcher(text, opened.model.config.temperature, opened.model)
        record = opened.record if opened.remembers_tower else None
        self.folder = self._folder(opened, record)
        frames = FramesConfig(hop_s=config.hop_s, dtype="float32", decoder=config.decoder, batch_size=config.batch_size)
        self.maker = None if self.folder else frame_maker(opened.image_tower(config.clip), opened.frames(frames), config.device)
        if self.maker is not None and record:
            made = {"encoder": self.maker.made_by, "dim": self.maker.dim, "grid": self.maker.steps}
            check_record(record, made, f"the image tower {self.maker.method} makes")
        self.settings = {
            "classes": dict(zip(self.labels, names, strict=True)),
            "proposals": str(config.proposals),
            "proposals_hash": hash_of(proposals),
            "min_score": self.min_score,
            "per_proposal": config.per_proposal,
            "top": config.top,
            "template": config.template if opened.model is None else None,
            "text_tower_hash": opened.tower.source["weights_hash"],
            "features": str(self.folder.path) if self.folder else self.maker.described["id"],
        }

    def _folder(self, opened: Opened, record: dict[str, Any] | None) -> FeatureFolder | None:
        if not self.config.features:
            return None
        if set(self.config.features) != {STREAM}:
            raise UsageError(f"a model with prompts has one stream of features, {STREAM}", f"--features {STREAM}=FOLDER")
        path = self.config.features[STREAM]
        folder = open_like(record, path) if record else FeatureFolder(path)
        if folder.dim != opened.tower.dim:
            raise UsageError(
                f"{folder.path} holds features of {folder.dim} channels, the text tower of {opened.source} gives {opened.tower.dim}",
                "features and text must come from the two towers of one CLIP model",
            )
        return folder

    @contextmanager
    def open(self, source: Input) -> Iterator[Watched]:
        with open_footage(source, self.decoder) as footage:
            if self.maker is not None:
                grid, batches = self.maker.stream(footage.reader, footage.start_s, footage.end_s)
                blocks = (features for features, _ in batches)
            else:
                grid, blocks = self._saved(source)
            yield Watched(source.row.path, footage, grid, blocks)

    def _saved(self, source: Input) -> tuple[Grid, Iterator[np.ndarray]]:
        try:
            found = self.folder.of(source.row)
        except FeatureError as error:
            raise InputError(error.message, error.hint) from None
        return found.grid, iter([np.asarray(found.values)])

    def score(self, opened: Watched, advance: Advance = still) -> Iterator[np.ndarray]:
        """Features of neighbouring frames, (m, dim) float32, as the classes are compared with them."""
        behind, done = opened.footage.start, 0
        for dense in self.matcher.dense(opened.blocks):
            if not np.isfinite(dense).all():
                raise InputError(f"{opened.footage.shown}: its features are not all finite", "make them again: vid extract-features")
            yield dense
            done += len(dense)
            reached = int(np.searchsorted(opened.footage.reader.pts, opened.grid.times(done)[-1, 1]))
            advance(max(0, reached - behind))
            behind = max(behind, reached)

    def finish(self, opened: Watched, scores: Iterator[np.ndarray]) -> EventDetection:
        footage, grid = opened.footage, opened.grid
        dense = np.concatenate(list(scores))
        segments, confidence = self._proposed(opened)
        chances = self.matcher.probabilities(means_inside(dense, grid, segments))
        events = classified((segments, confidence), chances, self.labels, self.config.per_proposal)
        events = [event._replace(score=round(event.score, 6)) for event in events if event.score >= self.min_score]
        notes = [] if len(segments) else [f"{self.config.proposals} has no proposals for this video"]
        return EventDetection(
            method=self.method,
            settings=self.settings,
            events=events[: self.config.top],
            curves=Curves(grid.centers(len(dense)), self.matcher.probabilities(dense).astype(np.float16), self.labels),
            shown_from=best_half(e.score for e in events) if self.config.min_score is None else self.config.min_score,
            has_sound=None,
            notes=notes,
            file=os.path.abspath(footage.reader.path),
            file_start_s=float(footage.reader.pts[0]),
            **footage.facts(),
        )

    def _proposed(self, opened: Watched) -> tuple[np.ndarray, np.ndarray]:
        """The proposals of a video that touch the part that counts, cut to it: (P, 2) seconds, (P,) scores."""
        footage = opened.footage
        segments, confidence = self.proposals.get(opened.path, (np.zeros((0, 2)), np.zeros(0)))
        first, last = footage.first_s, footage.first_s + footage.duration_s
        there = (segments[:, 0] < last) & (segments[:, 1] >= first)
        return np.clip(segments[there], first, last), confidence[there]

    def record(self, result: EventDetection) -> dict[str, Any]:
        return as_record(result)

    def write(self, kind: str, path: Path, result: EventDetection, opened: Watched, advance: Advance = still) -> None:
        write_file(kind, path, result)


def classes_of(config: DetectConfig, opened: Opened) -> tuple[list[str], list[str]]:
    """(labels, the words for them); UsageError or InputError where there are fewer than two, or two that cannot be told apart."""
    own = list(opened.saved.get("labels", ()))
    labels = config.classes or own
    if not labels:
        raise UsageError(f"{config.model} knows no classes of its own", 'say what to find: --classes "a dog barks,a cat sleeps"')
    if twice := next((label for place, label in enumerate(labels) if label in labels[:place]), None):
        raise UsageError(f"the class '{twice}' is named twice", "leave one out of --classes")
    if len(labels) == 1:
        raise UsageError(
            f"one class only, '{labels[0]}': there is nothing to tell it apart from", "name others too, for example what else happens there"
        )
    return labels, words_of(labels, config.names, dict(zip(own, opened.saved.get("names", ()), strict=False)))


def hash_of(proposals: Proposals) -> str:
    """Short hash of proposals, whatever their videos are called."""
    found = hashlib.sha256()
    for segments, confidence in proposals.values():
        found.update(np.ascontiguousarray(segments, np.float64).tobytes() + np.ascontiguousarray(confidence, np.float64).tobytes())
    return found.hexdigest()[:16]
