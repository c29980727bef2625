"""`vid extract-features`: what a pretrained encoder makes of any number of videos, as arrays for other programs."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.clips.clips import ClipSampler, frame_range
from tasks.core.clips.loader import Sample, collate
from tasks.core.clips.prepare import clip_of, modality_of, read_pictures, view_transform
from tasks.core.data.feature_files import h5py
from tasks.core.data.feature_sidecar import describe
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.data.rows import Row
from tasks.core.device import usable_device
from tasks.core.errors import UsageError
from tasks.core.inference.loop import Advance, still
from tasks.core.reporter import Reporter
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.image_text import open_pictures
from tasks.core.towers.produce import produce
from tasks.core.video.frame_count import expect
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoReader


def run(
    config: ExtractConfig, inputs: list[Input], out: Path, overwrite: bool, reporter: Reporter, among: Sequence[Input] | None = None
) -> Iterator[dict[str, Any]]:
    """Features of every input, one after the other; arguments and records as `produce`.

    Raises:
        UsageError: no such model, or the folder holds features of another model or grid; h5py is not installed.
    """
    if config.format == "h5":
        h5py()  # before hours of work
    yield from produce(Extractor(config), inputs, out, overwrite, reporter, among, "extracting")


class Extractor:
    """An encoder and the way videos are brought to it.

    Args:
        config: UsageError where it names no model with an encoder of clips or of pictures, or a device that is not there.

    Attributes:
        method: the model as it was named.
        settings: recorded with every result.
        made_by: the encoder and what it sees, for the folder's sidecar.
        steps: stride and span of windows, None for what follows a video's frame rate; None per video.
        described: the kind of features.
        dim: channels of a feature.
    """

    def __init__(self, config: ExtractConfig):
        device = usable_device(config.device)
        self.config, self.method, self.format, self.dtype = config, config.model, config.format, config.dtype
        if config.hop_s is not None and config.per != "window":
            raise UsageError("a hop is the distance of windows", "add --per window")
        self.encoder, weights = open_pictures(config.model, device)
        self.device, self.preprocessing, self.dim = device, self.encoder.preprocessing, self.encoder.dim
        if config.per == "window" and self.preprocessing.get("sampling", "dense") != "dense":
            raise UsageError(f"{config.model} looks at frames spread over a whole video, not at windows", "leave --per window out")
        self.sampler = ClipSampler.from_config(clip_of(self.preprocessing))
        self.transform = view_transform(self.preprocessing, config.crops)
        self._describe(weights)

    def _describe(self, weights: str) -> None:
        config, frames, stride = self.config, self.sampler.frames, self.sampler.stride_s
        span = None if stride is None else frames * stride
        chosen = {"clips": config.clips} if config.per == "video" else {"hop_s": config.hop_s}
        self.steps = None if config.per == "video" else {"stride_s": config.hop_s or span, "span_s": span}
        self.made_by = {
            "reference": config.model,
            "weights_hash": weights,
            "crops": config.crops,
            **({"clips": config.clips} if config.per == "video" else {}),
            "preprocessing": dict(self.preprocessing),
        }
        self.described = describe(self.made_by, self.steps, config.format, config.dtype)
        self.settings = {"per": config.per, **chosen, "crops": config.crops, "model_hash": weights, "id": self.described["id"]}

    def of_row(self, row: Row, advance: Advance) -> tuple[np.ndarray, Grid | None, np.ndarray | None, dict[str, Any]]:
        """As `FeatureMaker`; the facts are `n_frames` (of the file) and `damage` (text or None)."""
        with open_video(row.path, self.config.decoder) as reader:
            low, high = frame_range(reader.pts, row.start_s, row.end_s)
            expect(advance, high - low)
            found = self.features(reader, row.start_s, row.end_s, advance)
            return *found, {"n_frames": reader.n_frames, "damage": reader.damage}

    def features(
        self, reader: VideoReader, start_s: float | None = None, end_s: float | None = None, advance: Advance = still
    ) -> tuple[np.ndarray, Grid | None, np.ndarray | None]:
        """What the encoder's last layer says of a clip, averaged over its places and its squares.

        Args:
            reader: an open video; the part start_s <= t < end_s of it counts.
            advance: called with the number of frames that are behind.

        Returns:
            `per: video`: (dim,) float32, the mean over the clips, None, None. `per: window`: (n, dim) float32; the grid of the windows
            (`ClipSampler.on_grid`); (n, 2) float64, presentation times of the first and last frame that each saw, seconds.

        Raises:
            VideoError: the video cannot be decoded.
        """
        if self.config.per == "video":
            chosen = iter(self.sampler.views(len(reader.pts), reader.pts, self.config.clips, start_s, end_s))
            return np.concatenate([found for found, _ in self._batches(reader, chosen, advance)]).mean(0), None, None
        grid, batches = self.stream(reader, start_s, end_s, advance)
        found, seen = zip(*batches, strict=True)
        return np.concatenate(found), grid, np.concatenate(seen)

    def stream(
        self, reader: VideoReader, start_s: float | None = None, end_s: float | None = None, advance: Advance = still
    ) -> tuple[Grid, Iterator[tuple[np.ndarray, np.ndarray]]]:
        """The grid of the windows and, batch after batch, their features (n, dim) and the times that they saw (n, 2); `per: window` only,
        otherwise as `features`.
        """
        grid, chosen = self.sampler.on_grid(reader.pts, self.config.hop_s, start_s, end_s)
        return grid, self._batches(reader, chosen, advance)

    def _batches(self, reader: VideoReader, chosen: Iterator[np.ndarray], advance: Advance) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        behind = 0
        held: dict[int, np.ndarray] = {}  # windows may overlap
        while groups := list(islice(chosen, self.config.batch_size)):
            frames = np.stack(groups)
            numbers = np.unique(frames)
            fresh = [number for number in numbers.tolist() if number not in held]
            held |= zip(fresh, read_pictures(reader, fresh, self.preprocessing, self.config.crops), strict=True)
            held = {number: held[number] for number in numbers.tolist()}
            yield self._of([np.stack([held[number] for number in clip]) for clip in frames.tolist()]), reader.pts[frames[:, [0, -1]]]
            advance(max(0, int(frames.max()) - behind))
            behind = int(frames.max())

    @torch.no_grad()
    def _of(self, clips: list[np.ndarray]) -> np.ndarray:
        """Features (n, dim) of clips (T, H, W, 3)."""
        batch = collate([Sample(0, "", -1, clips, [0] * len(clips), modality=modality_of(self.preprocessing))])
        views = self.transform({**batch, "video": batch["video"].to(self.device)})
        pooled = [self.encoder(part)["pooled"] for part in views.split(self.config.batch_size)]
        return torch.cat(pooled).unflatten(0, (len(clips), -1)).mean(1).cpu().numpy()
