"""Validation of a localiser while it trains: events of every video, compared with the annotated ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tasks.core.data.batch import Batch
from tasks.core.data.feature_loader import make_eval_loader
from tasks.core.data.features import FeatureFolder
from tasks.core.data.segments.predictions import Event, write_results
from tasks.core.data.segments.table import EventTable
from tasks.core.engine.run import Run
from tasks.core.errors import InputError
from tasks.core.metrics.events import event_scores
from tasks.core.world import world
from tasks.localization.config import FinetuneConfig
from tasks.localization.data import EventSets, resized, to_seconds
from tasks.localization.decode import localize, settle
from tasks.localization.model import EventLocalizer
from tasks.localization.truth import is_event

Found = tuple[str, str, tuple[float, float], float]
"""(video, class, (start, end) in seconds, score)."""


class Validation:
    """Validates a localiser; all processes work on it together and get the same numbers.

    Args:
        config: of the run.
        sets: their validation videos and the classes.
        folders: of the streams, the first sets the grid.
    """

    def __init__(self, config: FinetuneConfig, sets: EventSets, folders: dict[str, FeatureFolder]):
        self.config, self.sets, self.folders = config, sets, folders
        self.videos = sets.val.grouped()
        events = [row for row in sets.val if is_event(row)]
        times = [(row.start_s, row.end_s) for row in events]
        self.truth = EventTable.of([row.path for row in events], [row.label for row in events], times)

    def __call__(self, localizer: EventLocalizer, run: Run, step: int, stop: Callable[[], None]) -> dict[str, float]:
        """Finds events in all videos, writes `predictions/step-<step>.json` (ActivityNet's results) and returns the metrics in [0, 1].

        Args:
            stop: called after every video, equally often by all processes; raises to end.

        Raises:
            InputError: no video has features.
        """
        found, skipped, n = self._gathered(self._find(localizer, run, stop))
        if run.main:
            run.skip(skipped, self.config.train.strict)
        if not n:
            raise InputError(
                "none of the validation videos has features that can be read", f"the first: {skipped[0][1] if skipped else '-'}"
            )
        if run.main:
            write_results(run.folder / "predictions" / f"step-{step:08d}.json", by_video(found))
        columns = zip(*found, strict=True) if found else ([], [], np.zeros((0, 2)), [])
        scores = event_scores(EventTable.of(*columns), self.truth, self.config.protocol)
        maps = {f"map@{threshold}": value for threshold, value in scores["map"].items()}
        counts = {name: scores[name] for name in ("n_events", "n_predictions", "n_dropped")}
        return {"average_map": scores["average_map"], **maps, **counts, "n_videos": n, "n_skipped": len(skipped)}

    def _find(self, localizer: EventLocalizer, run: Run, stop: Callable[[], None]) -> tuple[list[Found], list[tuple[str, str]], int]:
        """(events, (path, reason) of the unreadable, readable videos) of this process' share."""
        data = self.config.data.model_copy(update={"max_length": None, "test": "whole", "pad": "longest", "preload": False})
        rank, size = world()
        loader = make_eval_loader(self.videos, data, self.folders, self.sets.labels, 1, rank, size)
        was_training = localizer.training
        localizer.eval()
        found: list[Found] = []
        skipped: list[tuple[str, str]] = []
        read = 0
        with run.reporter.progress("testing", len(self.videos), "video") as bar:
            batches = iter(loader)
            for _ in range(-(-len(self.videos) // size)):  # a process may have one video less than others
                batch = next(batches, None)
                if batch is not None:
                    skipped += batch["skipped"]
                    read += len(batch["path"])
                    found += self._events(localizer, batch) if batch["path"] else []
                    bar.advance(size)
                stop()
        localizer.train(was_training)
        return found, skipped, read

    def _events(self, localizer: EventLocalizer, batch: Batch) -> list[Found]:
        length, main = int(batch["length"][0]), next(iter(self.folders))
        streams = {name: batch["features" if name == main else name][0, :length].T for name in localizer.needed}
        if self.config.resize:
            streams, _ = resized(streams, np.zeros((0, 2)), self.config.resize)
        size = next(iter(streams.values())).shape[1]

        def read(first: int, last: int) -> dict[str, torch.Tensor]:
            return {name: values[:, first:last] for name, values in streams.items()}

        kept = settle(localize(localizer, read, size, self.config.events), self.config.events)
        times = batch["times"][0, :length].numpy()
        seconds = to_seconds(kept["segments"].double().numpy(), times, self.config.resize)
        labels = [self.sets.labels[number] for number in kept["labels"].tolist()]
        path = batch["path"][0]
        return [
            (path, label, (start, end), score)
            for label, (start, end), score in zip(labels, seconds.tolist(), kept["scores"].tolist(), strict=True)
        ]

    def _gathered(self, own: tuple[list[Found], list[tuple[str, str]], int]) -> tuple[list[Found], list[tuple[str, str]], int]:
        """Joins the parts of all processes."""
        if world().size == 1:
            return own
        parts: list[Any] = [None] * world().size
        torch.distributed.all_gather_object(parts, own)
        return [event for part in parts for event in part[0]], [item for part in parts for item in part[1]], sum(part[2] for part in parts)


def by_video(found: list[Found]) -> dict[str, list[Event]]:
    """Events with times and scores as they are written."""
    videos: dict[str, list[Event]] = {}
    for video, label, (start, end), score in found:
        videos.setdefault(video, []).append(Event(label, round(start, 4), round(end, 4), round(score, 6)))
    return videos
