"""`vid classify`: what videos of any length show, by a trained classifier."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.classify.config import LabelConfig
from tasks.classify.evaluate import load_classifier
from tasks.classify.label_writers import SUFFIXES, write_file
from tasks.classify.labelling import Labelling, as_record
from tasks.core.checkpoint import find_model, weights_hash
from tasks.core.clips.clips import ClipSampler
from tasks.core.clips.config import DataConfig
from tasks.core.clips.loader import ClipDataset, Sample, collate
from tasks.core.clips.prepare import boxes_of, clip_of, flow_of, modality_of, short_side_of, view_transform
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.device import usable_device
from tasks.core.errors import UsageError
from tasks.core.inference.detector import Detector, Footage, detect_all
from tasks.core.inference.loop import Advance, still
from tasks.core.inference.output import Output
from tasks.core.profile import moved
from tasks.core.reporter import Reporter


def run(config: LabelConfig, inputs: list[Input], output: Output, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Names what every input shows, one after the other.

    Yields, in the order of the inputs:
        the record of `labelling.as_record` plus `files`; `{"video", "error"}` for an input that cannot be read; a record with
        `"skipped": True` where the files were made before.

    Raises:
        UsageError: no such model, or one that is not a classifier.
    """
    yield from detect_all(VideoLabeller(config), inputs, output, 0, reporter, "classifying")


class VideoLabeller(Detector[Footage, np.ndarray, Labelling]):
    """A classifier of `vid finetune`. What it yields are probabilities (n, C) float32 of n windows, the mean over the squares of each.

    A video is seen as in testing, by windows that are spread over it, as long as these can cover it; a longer one, or any with `hop_s`,
    window by window.

    Args:
        config: settings.

    Raises:
        UsageError: see `run`.
    """

    suffixes = SUFFIXES

    def __init__(self, config: LabelConfig):
        self.config, self.method, self.decoder = config, config.model, config.decoder
        self.device = usable_device(config.device)
        self.classifier, saved = load_classifier(config.model, self.device)
        seen = saved["preprocessing"]
        self.labels: list[str] = list(saved["labels"])
        self.sampler = ClipSampler.from_config(clip_of(seen))
        if config.hop_s is not None and self.sampler.sampling != "dense":
            raise UsageError(f"{config.model} looks at frames spread over a whole video, not at windows", "leave --hop out")
        self.transform, self.modality = view_transform(seen, config.crops), modality_of(seen)
        read = {"short_side": short_side_of(seen, config.crops), "flow": flow_of(seen), "boxes": boxes_of(seen)}
        self.clips = ClipDataset([], DataConfig(clip=clip_of(seen), decoder=config.decoder, **read), None, "views")
        self.settings = {
            "top": config.top,
            "clips": config.clips,
            "crops": config.crops,
            "hop_s": config.hop_s,
            "model_hash": weights_hash(find_model(config.model)),
        }

    def score(self, opened: Footage, advance: Advance = still) -> Iterator[np.ndarray]:
        _, windows = self._windows(opened)
        behind = opened.start
        while chosen := list(islice(windows, self.config.batch_size)):
            sample = Sample(0, opened.reader.path, -1, seeds=[0] * len(chosen), modality=self.modality)
            self.clips.read_clips(sample, opened.reader, np.stack(chosen))
            yield self._probabilities(sample)
            reached = min(opened.stop, int(chosen[-1].max()) + 1)
            advance(max(0, reached - behind))
            behind = max(behind, reached)
        advance(max(0, opened.stop - behind))

    def _windows(self, opened: Footage) -> tuple[Grid | None, Iterator[np.ndarray]]:
        """The windows, (T,) frame numbers each, and where they are; None: they are spread over the video, as in testing."""
        pts, start, end = opened.reader.pts, opened.start_s, opened.end_s
        if self.sampler.sampling == "dense":
            grid, windows = self.sampler.on_grid(pts, self.config.hop_s, start, end)
            if self.config.hop_s is not None or opened.duration_s > self.config.clips * grid.span_s:
                return grid, windows
        return None, iter(self.sampler.views(len(pts), pts, self.config.clips, start, end))

    @torch.inference_mode()
    def _probabilities(self, sample: Sample) -> np.ndarray:
        """(n, C) float32 of the n clips of a sample."""
        views = self.transform.streams(moved(collate([sample]), self.device))
        found = []
        for place in range(0, len(views["video"]), self.config.batch_size):
            part = {name: tensor[place : place + self.config.batch_size] for name, tensor in views.items()}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                found.append(self.classifier(part["video"], None, part.get("boxes")).float().softmax(-1))
        return torch.cat(found).unflatten(0, (len(sample.clips), -1)).mean(1).cpu().numpy()

    def finish(self, opened: Footage, scores: Iterator[np.ndarray]) -> Labelling:
        values, (grid, _) = np.concatenate(list(scores)), self._windows(opened)
        kept = values[:0] if grid is None else values
        times = np.zeros((0, 2)) if grid is None else grid.times(len(values))
        return Labelling(
            method=self.method,
            settings=self.settings,
            labels=self.labels,
            top=min(self.config.top, len(self.labels)),
            probabilities=values.mean(0),
            windows=kept.astype(np.float16),
            times=np.clip(times, opened.first_s, opened.first_s + opened.duration_s),
            views=f"{len(values)}x{self.config.crops}",
            file=os.path.abspath(opened.reader.path),
            file_start_s=float(opened.reader.pts[0]),
            **opened.facts(),
        )

    def record(self, result: Labelling) -> dict[str, Any]:
        return as_record(result)

    def write(self, kind: str, path: Path, result: Labelling, opened: Footage, advance: Advance = still) -> None:
        write_file(kind, path, result, opened)
