"""Testing video-text models: clips and sentences encoded, and what comes of comparing them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any, TypeVar

import numpy as np
import torch

from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.pair_metrics import alignment, retrieval
from tasks.contrastive.sentences import Reader, SentencePicker, frames_around
from tasks.contrastive.video_text import VideoText
from tasks.core.clips.augment import EvalTransform
from tasks.core.clips.clips import duration_s
from tasks.core.clips.loader import ClipDataset, Sample, collate
from tasks.core.data.batch import size_of
from tasks.core.data.feed import data_loader
from tasks.core.data.rows import Rows
from tasks.core.data.sampler import EvalBatches
from tasks.core.errors import InputError
from tasks.core.profile import moved
from tasks.core.reporter import Reporter
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError
from tasks.core.world import world

TEXTS = 256
"""Sentences that are encoded at once."""
T = TypeVar("T")


@dataclass
class PairTester:
    """Tests a model on rows with sentences, each process its share.

    Attributes:
        config: of the run.
        reader: of sentences.
        reporter: shows progress.
        stop: called by all processes equally often; raises to end.
        skipped: (path, reason) of videos that could not be read, after a test those of all processes.
    """

    config: PretrainConfig
    reader: Reader
    reporter: Reporter
    stop: Callable[[], None]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @torch.no_grad()
    def test(self, model: VideoText, rows: Rows) -> dict[str, float]:
        """Metrics of a model on rows: of each split by itself, its name before those of the metrics, where there are several.

        Raises:
            InputError: no video can be read.
        """
        was_training = model.training
        model.eval()
        codes, names = rows.codes("split")
        parts = {name: rows.at(codes == number) for number, name in [*enumerate(names), (-1, "")] if (codes == number).any()}
        parts = parts if len(parts) > 1 else {"": rows}
        found: dict[str, float] = {}
        for name, part in parts.items():
            numbers = {**self.retrieval(model, part), **self.alignment(model, part)}
            found |= {f"{name}_{key}" if name else key: value for key, value in numbers.items()}
        model.train(was_training)
        return found

    def retrieval(self, model: VideoText, rows: Rows) -> dict[str, float]:
        """`pair_metrics.retrieval` of one clip of every row and the different sentences; `n` clips, `sentences`."""
        clips: dict[int, np.ndarray] = {}
        size = self.config.train.batch_size
        with self.reporter.progress("testing", len(rows), "clip") as bar:
            for batch in self._in_step(self._clips(rows, size), ceil(ceil(len(rows) / world().size) / size)):
                self.skipped += batch["skipped"]
                if size_of(batch):
                    clips |= zip(batch["uid"].tolist(), self._video(model, batch), strict=True)
                bar.advance(size_of(batch) + len(batch["skipped"]))
        clips = {number: clip for part in everyone(clips) for number, clip in part.items()}
        self._share_skipped()
        if not clips:
            raise InputError("none of the validation videos could be read", "run: vid data check MANIFEST")
        read = sorted(clips)
        texts = [rows[number].text for number in read]
        different = list(dict.fromkeys(texts))
        numbers = {text: number for number, text in enumerate(different)}
        similarity = np.stack([clips[number] for number in read]) @ self._text(model, different).T
        found = retrieval(similarity, np.array([numbers[text] for text in texts]))
        return {**found, "n": len(read), "sentences": len(different)}

    def alignment(self, model: VideoText, rows: Rows) -> dict[str, float]:
        """`pair_metrics.alignment` of the rows with a start and an end, in all seconds of their videos; nothing where there are none."""
        timed = np.array([a is not None and b is not None for a, b in zip(rows.values("start_s"), rows.values("end_s"), strict=True)])
        if not timed.any():
            return {}
        videos = rows.at(timed).grouped()
        own, most = range(len(videos))[world().share], ceil(len(videos) / world().size)
        found = []
        with self.reporter.progress("aligning", len(videos), "video") as bar:
            for number in self._in_step(iter(own), most):
                path, sentences = videos[number]
                try:
                    seconds = np.concatenate(list(self._seconds(model, path)))
                except VideoError as error:
                    self.skipped.append((path, error.reason))
                    continue
                parts = np.array([(row.start_s, row.end_s) for row in sentences])
                found.append((self._text(model, [row.text for row in sentences]) @ seconds.T, parts))
                bar.advance()
        found = [each for part in everyone(found) for each in part]
        self._share_skipped()
        return alignment([each for each, _ in found], [each for _, each in found]) if found else {}

    def _share_skipped(self) -> None:
        self.skipped = list(dict.fromkeys(each for part in everyone(self.skipped) for each in part))

    def _in_step(self, items: Iterator[T], rounds: int) -> Iterator[T]:
        """The items; `stop` is called after each, and as often as in the process that has most."""
        for item in items:
            yield item
            self.stop()
            rounds -= 1
        for _ in range(rounds):
            self.stop()

    def _clips(self, rows: Rows, size: int) -> Iterator[dict[str, Any]]:
        data, picker = self.config.data, SentencePicker.from_config(self.config, train=False)
        dataset = ClipDataset(rows, data.model_copy(update={"preload": False}), None, picker=picker)
        return iter(data_loader(dataset, EvalBatches(len(rows), size, *world()), data, collate))

    def _seconds(self, model: VideoText, path: str) -> Iterator[np.ndarray]:
        """Vectors (n, dim) of the windows around the middle of every second that has begun before the end of a video."""
        picker = SentencePicker.from_config(self.config, train=False)
        data = self.config.data
        with open_video(path, data.decoder) as reader:
            pts = reader.pts
            stride, count = picker.stride_s(pts), max(1, ceil(pts[0] + duration_s(pts, None) - 1e-6))
            for first in range(0, count, self.config.train.batch_size):
                middles = np.arange(first, min(first + self.config.train.batch_size, count)) + 0.5
                chosen = np.stack([frames_around(pts, middle, picker.clip.frames, stride) for middle in middles])
                numbers, back = np.unique(chosen, return_inverse=True)
                pictures = reader.get(numbers, data.short_side)
                clips = [pictures[clip] for clip in back.reshape(chosen.shape)]
                yield self._video(model, collate([Sample(0, path, -1, clips, [0] * len(clips))]))

    def _video(self, model: VideoText, batch: dict[str, Any]) -> np.ndarray:
        """(n, dim) float32 of the clips of a batch."""
        device = next(model.parameters()).device
        transform = EvalTransform(self.config.augment, self.config.model.image_size)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = model.encoder.outputs(transform(moved(batch, device)).to(next(model.parameters()).dtype))
        return model.video_vectors(outputs).float().cpu().numpy()

    def _text(self, model: VideoText, texts: list[str]) -> np.ndarray:
        """(n, dim) float32 of sentences."""
        device = next(model.parameters()).device
        parts = (self.reader(texts[first : first + TEXTS], device) for first in range(0, len(texts), TEXTS))
        return torch.cat([model.text_vectors(part).float().cpu() for part in parts]).numpy()


def everyone(own: T) -> list[T]:
    """What every process has, by rank."""
    if world().size == 1:
        return [own]
    told: list[Any] = [None] * world().size
    torch.distributed.all_gather_object(told, own)
    return told
