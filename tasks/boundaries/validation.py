"""Validation of a boundary classifier while it trains: score, merge, compare with the annotation."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from tasks.boundaries.classifier import BoundaryClassifier
from tasks.boundaries.config import FinetuneConfig
from tasks.boundaries.learned import score_video, still_transform
from tasks.boundaries.merge import merge
from tasks.boundaries.truth import AnnotatedVideo, start_of
from tasks.core.data.feed import default_workers
from tasks.core.engine.run import Run
from tasks.core.errors import InputError
from tasks.core.files import write_json
from tasks.core.metrics.boundaries import gebd_scores
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError
from tasks.core.world import world


@dataclass
class Found:
    """What a classifier found in a set of videos, and after `gathered` in the sets of all processes.

    Attributes:
        predictions: video id -> boundaries, seconds from the start of the part that counts.
        durations: video id -> length of that part, seconds.
        skipped: (path, reason) of unreadable videos.
    """

    predictions: dict[str, list[float]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def gathered(self) -> "Found":
        """Joins the parts of all processes."""
        if world().size == 1:
            return self
        parts: list[Any] = [None] * world().size
        torch.distributed.all_gather_object(parts, self)
        joined = Found()
        for part in parts:
            joined.predictions |= part.predictions
            joined.durations |= part.durations
            joined.skipped += part.skipped
        return joined


class Validation:
    """Validates a classifier; all processes work on it together and get the same numbers.

    Args:
        videos: to validate on.
        image_size: S of the network, px.
    """

    def __init__(self, config: FinetuneConfig, videos: list[AnnotatedVideo], image_size: int):
        self.config, self.videos = config, videos
        self.transform = still_transform(config.augment, image_size)

    def __call__(self, classifier: BoundaryClassifier, run: Run, step: int, stop: Callable[[], None]) -> dict[str, float]:
        """Scores all videos, writes `predictions/step-<step>.json` (video id -> seconds) and returns the metrics in [0, 1].

        Args:
            stop: called equally often by all processes; raises to end.
        """
        if world().size > 1:  # running statistics of batch norm are those of the main process, as in the model folder
            for buffer in classifier.buffers():
                torch.distributed.broadcast(buffer, 0)
        found = self.find(classifier, run, stop).gathered()
        if run.main:
            run.skip(found.skipped, self.config.train.strict)
        if not found.predictions:
            raise InputError("none of the validation videos could be read", "run: vid data check VIDEOS")
        if run.main:
            write_json(run.folder / "predictions" / f"step-{step:08d}.json", dict(sorted(found.predictions.items())))
        truth = {video.id: video.as_truth(found.durations.get(video.id, 0.0)) for video in self.videos}
        scores = gebd_scores(
            found.predictions, truth, protocol=self.config.protocol, min_consistency=self.config.min_consistency, missing="drop"
        )
        return {
            **{f"f1@{at}": value for at, value in scores["f1"].items()},
            "avg_f1": scores["avg_f1"],
            "precision@0.05": scores["precision"]["0.05"],
            "recall@0.05": scores["recall"]["0.05"],
            "n": scores["n_videos"],
            "n_dropped": scores["n_dropped"],
            "n_skipped": len(found.skipped),
        }

    def find(self, classifier: BoundaryClassifier, run: Run, stop: Callable[[], None]) -> Found:
        """The boundaries in this process' share of the videos."""
        rank, size = world()
        share = self.videos[len(self.videos) * rank // size : len(self.videos) * (rank + 1) // size]
        was_training = classifier.training
        classifier.eval()
        found = Found()
        # on a GPU decoding is the slower part, so several videos are decoded at a time
        threads = max(1, default_workers(self.config.data)) if next(classifier.parameters()).device.type == "cuda" else 1
        at_once = 4 * threads
        with run.reporter.progress("testing", len(self.videos), "video") as bar, ThreadPoolExecutor(threads) as pool:
            for number in range(math.ceil(math.ceil(len(self.videos) / size) / at_once)):
                for _ in pool.map(lambda video: self._one(classifier, video, found), share[number * at_once : (number + 1) * at_once]):
                    bar.advance(size)
                stop()
        classifier.train(was_training)
        found.skipped.sort()
        return found

    def _one(self, classifier: BoundaryClassifier, video: AnnotatedVideo, found: Found) -> None:
        config, row = self.config, video.row
        batch = config.train.batch_size * config.data.repeats
        try:
            with open_video(row.path, config.data.decoder) as reader:
                scores = score_video(
                    classifier, reader, config.window, self.transform, config.data.short_side, batch, row.start_s, row.end_s
                )
                start = start_of(row, reader.pts)
                end = float(reader.pts[-1]) + 1 / reader.fps if row.end_s is None else row.end_s
        except VideoError as error:
            found.skipped.append((row.path, error.reason))
            return
        found.predictions[video.id] = [boundary.t - start for boundary in merge(scores, config.merge)]
        found.durations[video.id] = end - start
