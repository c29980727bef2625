"""A picture of what a network is shown: the first clips of a run as they come out of augmentation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tasks.core.data.batch import Batch
from tasks.core.files import replacing

SAMPLES, MOST = "samples.png", 4
Prepare = Callable[[Batch, torch.device], Batch]


def drawing_first(prepare: Prepare, folder: Path, config: Any) -> Prepare:
    """The same function, which draws the first clips that it gives, where they are clips and there is no picture yet.

    Args:
        prepare: from a CPU batch and the device to what a method takes.
        folder: of the run; it gets `SAMPLES`.
        config: of the run; without `augment` nothing is drawn.
    """
    file, augment = folder / SAMPLES, getattr(config, "augment", None)
    waiting = augment is not None and not file.exists()

    def drawn(batch: Batch, device: torch.device) -> Batch:
        nonlocal waiting
        ready = prepare(batch, device)
        video = ready.get("video")
        if waiting and video is not None and len(video) and video.ndim == 5 and video.shape[2] == 3:
            waiting = False
            draw_samples(file, video, augment)
        return ready

    return drawn


def draw_samples(file: Path, video: torch.Tensor, augment: Any) -> None:
    """Writes a PNG with a row for each of the first clips.

    Args:
        file: replaced whole.
        video: (N, T, 3, S, S) float, normalised by `mean` and `std` of `augment`.
        augment: see there.
    """
    from tasks.core.report.strips import tile

    clips = video[:MOST].detach().float().cpu()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (augment.mean, augment.std))
    frames = (clips * std + mean).mul(255).round().clamp(0, 255).byte().permute(0, 1, 3, 4, 2).numpy()
    with replacing(file) as temporary:
        temporary.write_bytes(tile([(f"clip {number}", clip) for number, clip in enumerate(frames, start=1)]))
