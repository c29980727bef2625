"""`vid detect-events`: events of any number of videos, by a trained localiser that makes its features itself."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.data.feature_files import FeatureError
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.data.segments.predictions import Event
from tasks.core.errors import InputError, UsageError
from tasks.core.inference.detector import Detector, Footage, detect_all, open_footage
from tasks.core.inference.loop import Advance, still
from tasks.core.inference.output import Output
from tasks.core.report.event_writers import SUFFIXES, write_file
from tasks.core.report.events import PROPOSAL, SHOWN_FROM, Curves, EventDetection, as_record
from tasks.core.reporter import Reporter
from tasks.core.towers.remembered import Tower, given_folders, tower_of
from tasks.localization.config import DetectConfig
from tasks.localization.learned import Localizer, Piece
from tasks.localization.windows import Stream, windows

LATE_S = 0.5
"""Sound that begins so much later than the picture, or ends so much earlier, is worth a word."""


def run(config: DetectConfig, inputs: list[Input], output: Output, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Detects in every input, one after the other.

    Yields, in the order of the inputs:
        the record of `result.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the files were made before.

    Raises:
        UsageError: no model, or one that cannot be used; features that are not those it learned from.
    """
    yield from detect_all(EventDetector(config), inputs, output, workers, reporter)


@dataclass(frozen=True)
class Watched:
    """An open video with its sound and its features.

    Attributes:
        footage: the video.
        sound: what the towers that hear have opened; None: there are none.
        streams: name -> grid and features.
    """

    footage: Footage
    sound: Any
    streams: Mapping[str, Stream]

    @property
    def grid(self) -> Grid:
        """Of the first stream."""
        return next(iter(self.streams.values()))[0]


class EventDetector(Detector[Watched, Piece, EventDetection]):
    """A localiser of `vid finetune`.

    Args:
        config: settings.

    Raises:
        UsageError: see `run`.
    """

    suffixes = SUFFIXES

    def __init__(self, config: DetectConfig):
        if config.model is None:
            raise UsageError(
                "events have classes, which only a trained model knows: there is no detector without one",
                "--model RUN; train one: vid finetune --preset localization/av-events --data MANIFEST --out RUN",
            )
        self.config, self.decoder, self.method = config, config.decoder, config.model
        self.localizer = Localizer(config.model, config.device, config.proposals)
        records = self.localizer.config["streams"]
        self.folders = given_folders(config.features, records, config.model)
        self.towers: dict[str, Tower] = {
            name: tower_of(name, record, config.model, config.device, config.decoder)
            for name, record in records.items()
            if name in self.localizer.needed and name not in self.folders
        }
        self.settings = {
            "min_score": self.localizer.events.min_score if config.min_score is None else config.min_score,
            "top": config.top,
            "proposals": config.proposals,
            "events": self.localizer.events.model_dump(),
            "model_hash": self.localizer.weights_hash,
            "features": {name: str(folder.path) for name, folder in self.folders.items()},
        }

    @contextmanager
    def open(self, source: Input) -> Iterator[Watched]:
        with ExitStack() as stack:
            footage = stack.enter_context(open_footage(source, self.decoder))
            streams: dict[str, Stream] = {}
            sound = None
            for name in self.localizer.needed:
                if name in self.folders:
                    streams[name] = self._saved(name, source)
                    continue
                tower = self.towers[name]
                opened = footage.reader
                if tower.hears:
                    opened = sound = stack.enter_context(tower.open(source.row.path))
                streams[name] = tower.stream(opened, footage.start_s, footage.end_s)
            yield Watched(footage, sound, streams)

    def _saved(self, name: str, source: Input) -> Stream:
        try:
            found = self.folders[name].of(source.row)
        except FeatureError as error:
            raise InputError(error.message, error.hint) from None
        return found.grid, iter([np.asarray(found.values)])

    def score(self, opened: Watched, advance: Advance = still) -> Iterator[Piece]:
        behind = opened.footage.start
        seen = windows(opened.streams, self.localizer.window, self.localizer.hop)
        for window in seen:
            yield self.localizer.piece(window)
            until = opened.grid.times(window.first + window.length)[-1, 1]
            reached = int(np.searchsorted(opened.footage.reader.pts, until))
            advance(max(0, reached - behind))
            behind = max(behind, reached)

    def finish(self, opened: Watched, scores: Iterator[Piece]) -> EventDetection:
        footage, grid = opened.footage, opened.grid
        found, curve = self.localizer.joined(scores, self.config.min_score, self.config.top)
        labels = [PROPOSAL] if self.config.proposals else self.localizer.labels
        curve = curve.max(1, keepdims=True) if self.config.proposals else curve
        first, last = footage.first_s, footage.first_s + footage.duration_s
        times = np.clip(grid.offset_s + grid.span_s / 2 + found["segments"].double().numpy() * grid.stride_s, first, last)
        events = [
            Event(labels[0 if self.config.proposals else label], round(float(start), 4), round(float(end), 4), round(float(score), 6))
            for (start, end), score, label in zip(times, found["scores"], found["labels"].tolist(), strict=True)
            if end > start
        ]
        return EventDetection(
            method=self.method,
            settings=self.settings,
            events=events,
            curves=Curves(grid.centers(len(curve)), curve, labels),
            shown_from=SHOWN_FROM if self.config.min_score is None else self.config.min_score,
            has_sound=None if opened.sound is None else opened.sound.has_sound,
            notes=notes(opened),
            file=os.path.abspath(footage.reader.path),
            file_start_s=float(footage.reader.pts[0]),
            **footage.facts(),
        )

    def record(self, result: EventDetection) -> dict[str, Any]:
        return as_record(result)

    def write(self, kind: str, path: Path, result: EventDetection, opened: Watched, advance: Advance = still) -> None:
        write_file(kind, path, result)


def notes(opened: Watched) -> list[str]:
    """What a reader must know of the sound: that there is none, that it is damaged, begins late or ends early."""
    sound, footage = opened.sound, opened.footage
    if sound is None:
        return []
    if not sound.has_sound:
        return ["the video has no sound: the model heard silence, and finds less"]
    found = [f"the sound is damaged: {sound.damage}"] if sound.damage else []
    first, last = footage.first_s, footage.first_s + footage.duration_s
    begins, ends = sound.sound
    if begins > first + LATE_S:
        found.append(f"the sound begins {begins - first:.1f} s after the picture: before it the model heard silence")
    if ends < last - LATE_S:
        found.append(f"the sound ends {last - ends:.1f} s before the picture: after it the model heard silence")
    return found
