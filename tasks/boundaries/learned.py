"""Scores of a trained boundary classifier over a video of any length, in bounded memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tasks.boundaries.classifier import BoundaryClassifier
from tasks.boundaries.config import MergeConfig, WindowConfig
from tasks.boundaries.labels import candidates, windows
from tasks.boundaries.result import Scores
from tasks.core.checkpoint import build_strict, find_model, load_config, load_weights, weights_hash
from tasks.core.clips.augment import TrainTransform
from tasks.core.clips.clips import frame_range
from tasks.core.clips.config import AugmentConfig
from tasks.core.device import usable_device
from tasks.core.errors import UsageError
from tasks.core.nn.config import ResNetConfig
from tasks.core.video.reader import VideoReader


class LearnedScorer:
    """A model of `vid finetune` for event boundaries, ready to score videos.

    Args:
        reference: model folder, run folder or `hf://` id; UsageError where it holds no boundary classifier.
        device: of `usable_device`.
        batch: windows that go through the network at once.

    Attributes:
        config: the model's config.json.
        merge: the rules it was validated with.
        weights_hash: tells models of the same name apart.
    """

    def __init__(self, reference: str, device: str = "auto", batch: int = 16):
        folder = find_model(reference)
        self.config: dict[str, Any] = load_config(folder)
        if self.config["task"] != "boundaries" or "window" not in self.config:
            raise UsageError(f"{reference} is not a detector of event boundaries", "train one: vid finetune --preset boundaries/gebd-tiny")
        self.window = WindowConfig(**self.config["window"])
        self.merge = MergeConfig(**self.config["merge"])
        model, prepared = ResNetConfig(**self.config["architecture"]), self.config["preprocessing"]
        self.transform = still_transform(AugmentConfig(**{k: prepared[k] for k in ("crop", "mean", "std")}), model.image_size)
        self.short_side, self.batch = prepared["short_side"], batch
        device = usable_device(device)
        self.classifier = build_strict(lambda: BoundaryClassifier(model, self.window.two_groups), load_weights(folder), str(folder))
        self.weights_hash = weights_hash(folder)
        self.classifier.to(device).eval()

    def score(
        self,
        reader: VideoReader,
        progress: Callable[[int], None] | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Scores:
        """A score for every candidate of an open video, or of a part of it; arguments and errors as `score_video`."""
        return Scores.join(self.windows(reader, progress, start_s, end_s))

    def windows(
        self,
        reader: VideoReader,
        progress: Callable[[int], None] | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> Iterator[Scores]:
        """The same, `batch` windows at a time."""
        return score_windows(self.classifier, reader, self.window, self.transform, self.short_side, self.batch, start_s, end_s, progress)


def still_transform(augment: AugmentConfig, size: int) -> TrainTransform:
    """What training does to a window apart from its random choices: the whole frame squeezed to the square (`crop: none`), else its
    central square; normalised.
    """
    crop = "none" if augment.crop == "none" else "center"
    return TrainTransform(AugmentConfig(crop=crop, mean=augment.mean, std=augment.std), size)


def score_video(
    classifier: BoundaryClassifier,
    reader: VideoReader,
    window: WindowConfig,
    transform: TrainTransform,
    short_side: int | None,
    batch: int,
    start_s: float | None = None,
    end_s: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """All scores of `score_windows`."""
    return Scores.join(score_windows(classifier, reader, window, transform, short_side, batch, start_s, end_s, progress))


@torch.no_grad()
def score_windows(
    classifier: BoundaryClassifier,
    reader: VideoReader,
    window: WindowConfig,
    transform: TrainTransform,
    short_side: int | None,
    batch: int,
    start_s: float | None = None,
    end_s: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Scores]:
    """The classifier's probability of a boundary at every candidate of a video, or of the part start_s <= t < end_s.

    The video is gone through once, forwards: frames that some window needs are decoded once, brought to the network's size once, and
    forgotten when no later window needs them.

    Args:
        classifier: in evaluation mode.
        reader: the video.
        window: which frames are around a candidate.
        transform: of `still_transform`.
        short_side: the reader's scaling before it, px, or None.
        batch: windows at once.
        start_s, end_s: None: from the first, to the last frame.
        progress: called with the number of further frames of the video that are behind.

    Yields:
        the scores of `batch` candidates, in order of time.

    Raises:
        VideoError: the video cannot be decoded.
    """
    device = next(classifier.parameters()).device
    low, high = frame_range(reader.pts, start_s, end_s)
    chosen = candidates(reader.pts, window, low, high)
    around = windows(reader.pts, chosen, window, low, high)
    needed = np.unique(around)
    held, first, behind = None, 0, low  # frames needed[first : first + len(held)] of the present block, (n, 3, S, S)
    for at in range(0, len(chosen), batch):
        block = around[at : at + batch]
        begin, end = np.searchsorted(needed, block.min()), np.searchsorted(needed, block.max(), side="right")
        known = 0 if held is None else first + len(held)
        fresh = needed[max(begin, known) : end]
        parts = [] if held is None else [held[begin - first :]]
        if len(fresh):
            pictures = torch.from_numpy(reader.get(fresh, short_side)).permute(0, 3, 1, 2).contiguous()
            parts.append(transform.frames(pictures.to(device, non_blocking=True)))
        held, first = torch.cat(parts), begin
        places = torch.from_numpy(np.searchsorted(needed, block) - first).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = classifier(held[places])
        found = logits.float().sigmoid().cpu().numpy()
        if progress is not None:
            done = high if at + batch >= len(chosen) else int(chosen[at + batch])
            progress(done - behind)
            behind = done
        numbers = chosen[at : at + batch]
        yield Scores(reader.pts[numbers].astype(np.float64), numbers, found.astype(np.float32))
