"""The thesis' figure 3.3: frames of a clip and where the MotionSqueeze layer is sure of a match; below it the displacement."""

import itertools
from pathlib import Path

import numpy as np
import torch

from tasks.boundaries.config import PretrainConfig
from tasks.core.engine.run import Run
from tasks.core.files import replacing
from tasks.core.nn.resnet_tsm import MotionResNet

LENGTH = 9
"""Frames of a clip in a picture: eight pairs."""


@torch.no_grad()
def explain(encoder: MotionResNet, clip: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the MotionSqueeze layer finds in a clip, on the CPU.

    Args:
        clip: (T, 3, S, S) float32, normalised as for training.

    Returns:
        `confidence` (T - 1, h, w) in [0, 1]; `displacement` (T - 1, 2, h, w), to the right and downwards, in [-1, 1] of the largest.
    """
    was_training = encoder.training
    encoder.eval()
    maps = encoder.motion.match(encoder.early(clip, len(clip)), len(clip))[0].cpu()
    encoder.train(was_training)
    return {"confidence": maps[:, 2], "displacement": maps[:, :2]}


def picture(frames: np.ndarray, explained: dict[str, torch.Tensor]) -> bytes:
    """PNG bytes: frames, confidence over them, displacement as colour (direction: hue; length: strength).

    Args:
        frames: (T - 1, S, S, 3) uint8, the first of every pair.
    """
    from tasks.core.report.strips import heatmap, tile

    size = frames.shape[1]
    confidence = heatmap(explained["confidence"].numpy(), size)
    gray = frames.mean(-1, keepdims=True)
    rows = [
        ("frames", frames),
        ("motion\nconfidence", (0.4 * gray + 0.6 * confidence).round().astype(np.uint8)),
        ("displacement", _wheel(explained["displacement"].numpy(), size)),
    ]
    return tile(rows, len(frames), 112)


def _wheel(displacement: np.ndarray, size: int) -> np.ndarray:
    """(n, 2, h, w) -> (n, size, size, 3) uint8: white where nothing moves; the longest of the clip in full colour."""
    from matplotlib.colors import hsv_to_rgb

    x, y = displacement[:, 0], displacement[:, 1]
    length = np.hypot(x, y)
    colors = hsv_to_rgb(np.stack([np.arctan2(y, x) / (2 * np.pi) % 1, length / max(length.max(), 1e-6), np.ones_like(x)], -1))
    cell = np.arange(size) * x.shape[1] // size
    return (colors[:, cell][:, :, cell] * 255).round().astype(np.uint8)


def clips(config: PretrainConfig, rows: list, count: int) -> torch.Tensor:
    """`(at most count, T, 3, S, S)` normalised clips of readable rows, spread over the list; T is `LENGTH`."""
    from tasks.core.clips.augment import EvalTransform
    from tasks.core.clips.loader import make_eval_loader

    clip = config.data.clip.model_copy(update={"frames": LENGTH})
    data = config.data.model_copy(update={"workers": 0, "preload": False, "clip": clip})
    spread = rows[:: max(1, len(rows) // count)][: 4 * count]
    transform = EvalTransform(config.augment, config.model.image_size)
    readable = (transform(batch) for batch in make_eval_loader(spread, data, None, 1) if len(batch["video"]))
    found = list(itertools.islice(readable, count))
    return torch.cat(found) if found else torch.zeros(0, LENGTH, 3, config.model.image_size, config.model.image_size)


def visualize(encoder: MotionResNet, config: PretrainConfig, rows: list, run: Run) -> Path:
    """Writes `pictures/clip-N.png` into the run folder for `config.visualize` clips; returns the folder."""
    folder = run.folder / "pictures"
    device = next(encoder.parameters()).device
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.augment.mean, config.augment.std))
    found = clips(config, rows, config.visualize)
    for number, clip in enumerate(found):
        shown = ((clip[:-1] * std + mean).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        with replacing(folder / f"clip-{number}.png") as temporary:
            temporary.write_bytes(picture(shown, explain(encoder, clip.to(device))))
    run.reporter.info(f"wrote {len(found)} pictures to {folder}")
    return folder
