"""`vid extract-features`: what a pretrained encoder makes of any number of videos, as arrays for other programs."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.checkpoint import find_model, weights_hash
from tasks.core.clips.clips import ClipSampler
from tasks.core.clips.loader import Sample, collate
from tasks.core.clips.prepare import clip_of, short_side_of, view_transform
from tasks.core.data.inputs import Input
from tasks.core.device import usable_device
from tasks.core.errors import UsageError
from tasks.core.files import replacing, write_json
from tasks.core.report.outputs import finished, readable
from tasks.core.reporter import Reporter
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.encoder import load_encoder
from tasks.core.video.children import each
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader

ARRAYS, RECORD = ".features.npz", ".features.json"


def run(config: ExtractConfig, inputs: list[Input], out: Path, overwrite: bool, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """Features of every input, one after the other; `NAME.features.npz` and `NAME.features.json` each.

    Yields, in the order of the inputs:
        the record of `one`; `{"video", "error"}` for an input that cannot be read; a record with `"skipped": True` where the files were
        there already, made with the same model and settings.
    """
    work = partial(one, Extractor(config), out, overwrite)
    yield from each(work, inputs, 0, reporter, "extracting", "video", lambda source, reason: {"video": source.shown, "error": reason})


def one(
    extractor: "Extractor", out: Path, overwrite: bool, source: Input, advance: Callable[[int], None] = lambda n: None
) -> dict[str, Any]:
    """Features of one input, written.

    Returns:
        `video`, `method`, `settings`, `n` (features), `dim`, `n_frames` (of the file), `damage` (text or None), `files`.
    """
    row, wanted = source.row, [out / f"{source.name}{suffix}" for suffix in (RECORD, ARRAYS)]
    if not overwrite and (record := finished(wanted, wanted[0], source.shown, extractor.method, extractor.settings, row.path)):
        return record
    try:
        with open_video(row.path, extractor.config.decoder) as reader:
            arrays = extractor.features(reader, row.start_s, row.end_s, advance)
            record = {
                "video": readable(source.shown),
                "method": extractor.method,
                "settings": extractor.settings,
                "n": len(np.atleast_2d(arrays["features"])),
                "dim": arrays["features"].shape[-1],
                "n_frames": reader.n_frames,
                "damage": reader.damage,
            }
    except VideoError as error:
        return {"video": source.shown, "error": error.reason}
    with replacing(wanted[1]) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    write_json(wanted[0], record)
    return {**record, "files": [str(path) for path in wanted]}


class Extractor:
    """An encoder and the way videos are brought to it.

    Args:
        config: UsageError where it names no model with an encoder of clips, or a device that is not there.

    Attributes:
        method: the model as it was named. settings: recorded with every result.
    """

    def __init__(self, config: ExtractConfig):
        folder = find_model(config.model)
        device = usable_device(config.device)
        self.config, self.method = config, config.model
        if config.hop_s is not None and config.per != "window":
            raise UsageError("a hop is the distance of windows", "add --per window")
        self.encoder = load_encoder(str(folder), device)
        self.device, self.preprocessing = device, self.encoder.preprocessing
        if config.per == "window" and self.preprocessing.get("sampling") == "segments":
            raise UsageError(f"{config.model} looks at frames spread over a whole video, not at windows", "leave --per window out")
        chosen = {"clips": config.clips} if config.per == "video" else {"hop_s": config.hop_s}
        self.settings = {"per": config.per, **chosen, "crops": config.crops, "model_hash": weights_hash(folder)}
        self.sampler = ClipSampler.from_config(clip_of(self.preprocessing))
        self.transform = view_transform(self.preprocessing, config.crops)

    def features(
        self, reader: VideoReader, start_s: float | None = None, end_s: float | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> dict[str, np.ndarray]:
        """What the encoder's last layer says of a clip, averaged over its places and its squares.

        Args:
            reader: an open video; the part start_s <= t < end_s of it counts. advance: called with the number of frames that are behind.

        Returns:
            `per: video`: `features` (dim,) float32, the mean over the clips. `per: window`: `features` (n, dim) float32 and `t` (n, 2)
            float64, presentation times of the first and last frame of each window, seconds.

        Raises:
            VideoError: the video cannot be decoded.
        """
        pts = reader.pts
        if self.config.per == "video":
            chosen = iter(self.sampler.views(len(pts), pts, self.config.clips, start_s, end_s))
        else:
            chosen = self.sampler.windows(len(pts), pts, hop_s=self.config.hop_s, start=start_s, end=end_s)
        found, times, behind = [], [], 0
        held: dict[int, np.ndarray] = {}  # windows may overlap
        while groups := list(islice(chosen, self.config.batch_size)):
            frames = np.stack(groups)
            numbers = np.unique(frames)
            fresh = [number for number in numbers.tolist() if number not in held]
            held |= zip(fresh, reader.get(fresh, short_side_of(self.preprocessing, self.config.crops)), strict=True)
            held = {number: held[number] for number in numbers.tolist()}
            found.append(self._of([np.stack([held[number] for number in clip]) for clip in frames.tolist()]))
            times.append(pts[frames[:, [0, -1]]])
            advance(max(0, int(frames.max()) - behind))
            behind = int(frames.max())
        features = np.concatenate(found)
        if self.config.per == "video":
            return {"features": features.mean(0)}
        return {"features": features, "t": np.concatenate(times)}

    @torch.no_grad()
    def _of(self, clips: list[np.ndarray]) -> np.ndarray:
        """Features (n, dim) of clips (T, H, W, 3)."""
        batch = collate([Sample(0, "", -1, clips, [0] * len(clips))])
        views = self.transform({**batch, "video": batch["video"].to(self.device)})
        pooled = [self.encoder(part)["pooled"] for part in views.split(self.config.batch_size)]
        return torch.cat(pooled).unflatten(0, (len(clips), -1)).mean(1).cpu().numpy()
