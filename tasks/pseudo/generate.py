"""`vid gen-pseudo`: spatial and temporal pseudo-anomalies of normal videos, each video on its own."""

import hashlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.clips.clips import frame_range
from tasks.core.config import Config
from tasks.core.data.inputs import Input
from tasks.core.device import usable_device
from tasks.core.engine.random import derive_seed
from tasks.core.errors import InputError
from tasks.core.inference.loop import each_input, failure
from tasks.core.reporter import Reporter
from tasks.core.shard import Shard
from tasks.core.video.frame_count import expect
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader
from tasks.pseudo.config import GenerateConfig
from tasks.pseudo.inpaint import Filler, Patch, Telea, inpaint
from tasks.pseudo.masks import Chooser, moving_regions, rectangle_of
from tasks.pseudo.reading import some_frames, windows
from tasks.pseudo.store import Store, VideoWriter, file_name, finished
from tasks.pseudo.temporal import FlowMixup

MACHINE_KEYS = ("batch_size", "precision", "device", "decoder")
"""Settings that may differ between the parts of one folder: they change nothing, or last bits only."""
_WINDOW_FRAMES = {"cpu": 16, "cuda": 64}
"""Frames read at a time: enough to fill a GPU with flow; few enough that a CPU looks up for a signal every few seconds."""
_STREAMS = {"mask": 1, "noise": 2, "flow": 3, "donor": 4}


def run(config: GenerateConfig, inputs: list[Input], shard: Shard, out: Path, workers: int, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Makes the pseudo-anomalies of this shard's inputs, one after the other or, without a network, in several processes.

    Yields, in the order of the inputs:
        a record per video; `{"video", "error"}` for one that cannot be read; a record with `"skipped": True` for one that was there.
    """
    own = shard.own(inputs, attrgetter("name"), reporter)
    maker = Maker(config, inputs, out)
    store = Store(out, settings_of(config), maker.facts, shard, reporter)
    store.open()
    try:
        work = partial(one, maker)
        here = 0 if maker.on_device else workers
        yield from each_input(work, own, here, reporter, "making")
    finally:
        store.index()
        store.close()


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that decide what comes out."""
    return {key: value for key, value in config.model_dump(mode="json").items() if key not in MACHINE_KEYS}


def plan(config: GenerateConfig, inputs: list[Input], shard: Shard, out: Path) -> list[dict[str, Any]]:
    """What `run` would do, one row per video of the shard: models and files are looked at, no video is read and nothing is written."""
    Maker(config, inputs, out)
    return [
        {"video": source.shown, "name": source.name, "to": str(out / "*" / source.name), "done": finished(out, source) is not None}
        for source in shard.take(inputs, attrgetter("name"))
    ]


def one(maker: "Maker", source: Input, advance: Callable[[int], None] = lambda n: None) -> dict[str, Any]:
    """The record of one input, made now or before."""
    try:
        if (record := finished(maker.out, source)) is not None:
            return {**record, "video": source.shown, "skipped": True}
    except InputError as error:
        return {"video": source.shown, "error": f"{error.message}; {error.hint}"}
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # the other cores have videos of their own
    try:
        return maker.make(source, advance)
    except VideoError as error:
        return failure(source, error)


class Maker:
    """Makes the pseudo-anomalies of a video. Can be sent to another process where there is no network in it.

    Everything that is drawn depends on the seed, the name of the video's outputs and the frame; not on shard, batch, process or device.

    Attributes:
        on_device: there is a network, or a GPU: videos are made one after the other in this process.
        facts: what is recorded about the models.
    """

    def __init__(self, config: GenerateConfig, inputs: list[Input], out: Path):
        self.config, self.inputs, self.out = config, inputs, Path(out)
        self.device = device = usable_device(config.device)
        self.filler: Filler | None = None
        self.segmenter = self.boxes = None
        self.facts: dict[str, Any] = {}
        masks = config.masks
        if masks.kind == "segmentation":
            from tasks.pseudo.objects import Segmenter

            self.segmenter = Segmenter(masks.weights, masks.min_score, masks.max_area, device)
            self.facts["segmenter"] = self.segmenter.file.name
        elif masks.kind == "boxes":
            from tasks.pseudo.objects import ObjectBoxes

            self.boxes = ObjectBoxes(masks.file, masks.min_score, masks.max_area)
        if config.spatial == "ldm":
            from tasks.pseudo.pipeline import load

            loaded = load(config, device)
            self.filler = loaded.filler
            self.facts["model"] = loaded.facts
        elif config.spatial == "telea":
            self.filler = Telea()
        self.on_device = config.spatial == "ldm" or self.segmenter is not None or device.type != "cpu"

    def make(self, source: Input, advance: Callable[[int], None]) -> dict[str, Any]:
        """Makes and writes everything of one video; VideoError where it cannot be read."""
        config = self.config
        with open_video(source.row.path, config.decoder) as reader:
            start, stop = frame_range(reader.pts, source.row.start_s, source.row.end_s)
            kinds = ("frames", "masks") if config.spatial != "none" else ("masks",)
            kinds += ("flow", "flow_pseudo") if config.temporal.kind != "none" else ()
            with VideoWriter(self.out, source.name, kinds) as writer:
                expect(advance, stop - start)
                rows = _OneVideo(self, source, reader, writer).run(start, stop, advance)
                return self._finish(source, reader, writer, rows)

    def _finish(self, source: Input, reader: VideoReader, writer: VideoWriter, rows: list[dict[str, Any]]) -> dict[str, Any]:
        config = self.config
        spatial = config.spatial != "none"
        video = {
            "path": f"frames/{source.name}" if spatial else source.row.path,
            "source": source.row.path,
            "n_frames": len(rows),
            "fps": round(float(reader.fps), 6),
            "spatial": config.spatial,
            "masks": config.masks.kind,
            "temporal": config.temporal.kind,
            "seed": config.seed,
        }
        record = {
            "video": source.shown,
            "name": source.name,
            "frames": len(rows),
            "spatial": config.spatial,
            "model": config.model if config.spatial == "ldm" else None,
            "masks": config.masks.kind,
            "masks_used": dict(Counter(row["mask_kind"] for row in rows)),
            "mask_area": round(float(np.mean([row["mask_area"] for row in rows])), 4),
            "temporal": config.temporal.kind,
            "written": [f"{self.out / kind / source.name}" for kind in writer.folders],
            "damage": reader.damage,
        }
        writer.finish(video, rows, record)
        return record

    def seed(self, source: Input, stream: str) -> list[int]:
        """Entropy of one kind of draw of one video: the name counts, not where the file lies."""
        digest = hashlib.sha256(os.fsencode(source.name)).digest()
        return [self.config.seed, *(int.from_bytes(digest[i : i + 4], "big") for i in range(0, 16, 4)), _STREAMS[stream]]

    def filler_of(self, source: Input, reader: VideoReader) -> Filler | None:
        """What fills the holes of one video."""
        if self.config.spatial != "patch":
            return self.filler
        rng = np.random.default_rng(self.seed(source, "donor"))
        others = sorted((other for other in self.inputs if other.row.path != source.row.path), key=lambda other: other.name)
        for number in rng.permutation(len(others)):
            try:
                with open_video(others[number].row.path, self.config.decoder) as donor:
                    return Patch(some_frames(donor, rng, self.config.short_side))
            except VideoError:
                continue
        return Patch(some_frames(reader, rng, self.config.short_side))


class _OneVideo:
    """The windows of one video, in order."""

    def __init__(self, maker: Maker, source: Input, reader: VideoReader, writer: VideoWriter):
        self.maker, self.config, self.source, self.reader, self.writer = maker, maker.config, source, reader, writer
        self.filler = maker.filler_of(source, reader)
        self.mixup = FlowMixup(self.config.temporal, maker.seed(source, "flow")) if self.config.temporal.kind != "none" else None
        self.noise = maker.seed(source, "noise")
        self.boxes = maker.boxes.of(source.row.path) if maker.boxes else None
        self.chooser: Chooser | None = None
        self.last_flow: np.ndarray | None = None

    def run(self, start: int, stop: int, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Everything of frames [start, stop); returns their rows."""
        rows: list[dict[str, Any]] = []
        self.advance = advance
        limit = _WINDOW_FRAMES.get(self.maker.device.type, 16)
        for numbers, times, frames, following in windows(self.reader, start, stop, self.config.short_side, self.config.batch_size, limit):
            rows += self._window(numbers, times, frames, following, len(rows))
            advance(len(frames))
        return rows

    def _window(self, numbers: list[int], times: list[float], frames: np.ndarray, following: np.ndarray | None, first: int) -> list[dict]:
        flows = self._flows(frames, following)
        masks, kinds = self._masks(numbers, frames, flows, first)
        seeds = [derive_seed(*self.noise, first + i) for i in range(len(frames))]
        for i, made in enumerate(self._filled(frames, masks, seeds)):
            self.writer.put("frames", first + i, made)
        rows = []
        for i, mask in enumerate(masks):
            self.writer.put("masks", first + i, mask)
            box = rectangle_of(mask)
            mixed = self.mixup(first + i, flows[i], box) if self.mixup else None
            if mixed:
                self.writer.put("flow", first + i, flows[i])
                self.writer.put("flow_pseudo", first + i, mixed.flow)
            rows.append(
                {
                    "path": f"frames/{self.source.name}/{file_name(first + i)}" if self.filler else "",
                    "source": self.source.row.path,
                    "frame": numbers[i],
                    "t": f"{times[i]:.6f}",
                    "spatial": self.config.spatial,
                    "model": self.config.model if self.config.spatial == "ldm" else "",
                    "masks": self.config.masks.kind,
                    "mask_kind": kinds[i],
                    "mask_area": round(float(mask.mean()), 6),
                    "box": " ".join(map(str, box)),
                    "lambda": f"{mixed.weight:.6f}" if mixed else "",
                    "box_r": " ".join(map(str, mixed.source)) if mixed else "",
                    "seed": seeds[i],
                }
            )
        self.writer.flush()
        return rows

    def _filled(self, frames: np.ndarray, masks: list[np.ndarray], seeds: list[int]) -> Iterator[np.ndarray]:
        if self.filler is None:
            return
        size = self.config.batch_size
        for at in range(0, len(frames), size):
            self.advance(0)  # 50 steps take a while: here it may be told to stop
            yield from inpaint(self.filler, frames[at : at + size], np.stack(masks[at : at + size]), seeds[at : at + size])

    def _flows(self, frames: np.ndarray, following: np.ndarray | None) -> np.ndarray | None:
        """`(n, 2, H, W)` float32: from every frame to the next; the last frame of a video repeats the flow before it."""
        if self.mixup is None and self.config.masks.kind != "motion":
            return None
        from tasks.core.flow.flow import flow_of

        pictures = frames if following is None else np.concatenate((frames, following[None]))
        flows = flow_of(pictures, device=self.maker.device, config=self.config.temporal.flow).numpy()
        if following is None:
            before = flows[-1] if len(flows) else self.last_flow
            end = np.zeros((2, *frames.shape[1:3]), np.float32) if before is None else before
            flows = np.concatenate((flows, end[None]))
        self.last_flow = flows[-1]
        return flows

    def _masks(self, numbers: list[int], frames: np.ndarray, flows: np.ndarray | None, first: int) -> tuple[list[np.ndarray], list[str]]:
        height, width = frames.shape[1:3]
        config = self.config.masks
        if self.chooser is None:
            self.chooser = Chooser(height, width, self.maker.seed(self.source, "mask"), config.hold_frames, config.kind)
        objects: list[list[np.ndarray]] = [[] for _ in numbers]
        if config.kind == "segmentation":
            size = self.config.batch_size
            objects = [found for at in range(0, len(frames), size) for found in self.maker.segmenter.find(frames[at : at + size])]
        elif config.kind == "motion":
            objects = [moving_regions(flow, config.max_area) for flow in flows]
        elif self.boxes is not None:
            scale = width / self.reader.width, height / self.reader.height
            objects = [self.maker.boxes.masks(self.boxes.get(number, []), height, width, scale) for number in numbers]
        chosen = [self.chooser.choose(first + i, found) for i, found in enumerate(objects)]
        return [mask for mask, _ in chosen], [kind for _, kind in chosen]
