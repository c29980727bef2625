"""The rows of the thesis' figure 5.4: frames, reconstruction, error, sampling probability, mask."""

import itertools
from pathlib import Path
from typing import Any

import torch

from tasks.core.clips.config import DataConfig
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run
from tasks.core.files import replacing
from tasks.core.nn.masked import normalize_cubes, take
from tasks.core.reporter import Reporter
from tasks.masked.config import PretrainConfig
from tasks.masked.method import MaskedPretraining
from tasks.masked.model import patchify, unpatchify

LONG_AFTER = 1 << 30  # an epoch number past any warm-up: the sampler itself draws


@torch.no_grad()
def explain(method: MaskedPretraining, video: torch.Tensor, seed: int = 0, boxes: torch.Tensor | None = None) -> dict[str, Any]:
    """Everything a picture of one clip needs, on the CPU.

    A target normalised per token has no absolute colour, so the reconstruction borrows each masked token's own mean and standard deviation
    from the input: what is shown is structure that was predicted, at true brightness and contrast. Motion targets are shown as predicted,
    on the clip's mean frame.

    Args:
        video: `(1, T, 3, S, S)` float32, normalised as for training.
        seed: of the draw.
        boxes: `(1, T, 4)` px, for a sampler that looks at them.

    Returns:
        `frames`, `reconstruction` (T, 3, S, S) float32 in [0, 1]; `error`, `probability` (T', h, w) float32 per token (`probability`
        is None
        for samplers without one); `mask` (T', h, w) bool, True where hidden; `boxes` (T, 4) float32 px, or None.
    """
    was_training = method.training
    method.eval()
    c = method.config
    grid, tubelet, patch = c.model.grid(), c.model.tubelet, c.model.patch
    rng = BatchRandom(seed, 0, rows=1, device=video.device)
    choice, prediction = method.reconstruct(video, rng, Progress(0, LONG_AFTER, 1, 1), boxes)
    errors = method.errors(video, choice.masked, prediction)
    pixels = method.pixels(video)
    cubes = patchify(pixels, tubelet, patch)
    guess = prediction.float().view(1, -1, cubes.shape[2], 3)
    if c.target.kind == "motion":
        still = pixels.mean(1, keepdim=True)
        moving = take(patchify(pixels - still, tubelet, patch), choice.masked)
        scale = moving.std() + 1e-3 if c.target.normalize else 1.0
        guess = guess * scale + take(patchify(still.expand_as(pixels), tubelet, patch), choice.masked)
    elif c.target.normalize:
        _, mean, std = normalize_cubes(take(cubes, choice.masked))
        guess = guess * std + mean
    filled = cubes.clone()
    filled[0, choice.masked[0]] = guess[0]
    error = torch.zeros(method.sampler.n_tokens, device=video.device)
    error[choice.masked[0]] = errors[0]
    mask = torch.ones(method.sampler.n_tokens, dtype=torch.bool)
    mask[choice.visible[0].cpu()] = False
    method.train(was_training)
    return {
        "frames": pixels[0].clamp(0, 1).cpu(),
        "reconstruction": unpatchify(filled, grid, tubelet, patch)[0].clamp(0, 1).cpu(),
        "error": error.view(grid).cpu(),
        "probability": None if choice.log_probs is None else choice.log_probs[0].exp().view(grid).cpu(),
        "mask": mask.view(grid),
        "boxes": None if boxes is None else boxes[0].cpu(),
    }


def picture(explained: dict[str, Any], size: int, tubelet: int, every: int = 2) -> bytes:
    """PNG bytes of the five rows of one clip, every `every`-th frame."""
    from tasks.core.report.strips import heatmap, outline, overlay_mask, tile

    def frames(x: torch.Tensor) -> Any:
        return (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()

    def through_time(values: torch.Tensor) -> Any:
        return values.repeat_interleave(tubelet, 0).numpy()

    shown = frames(explained["frames"])
    rows = [
        ("frames", shown),
        ("reconstruction", frames(explained["reconstruction"])),
        ("error", heatmap(through_time(explained["error"]), size)),
    ]
    if explained["probability"] is not None:
        rows.append(("probability", heatmap(through_time(explained["probability"]), size)))
    masked = overlay_mask(shown, through_time(explained["mask"]))
    rows.append(("mask", masked if explained["boxes"] is None else outline(masked, explained["boxes"].numpy())))
    return tile([(caption, images[::every]) for caption, images in rows])


def clips(config: PretrainConfig, rows: list, count: int) -> dict[str, torch.Tensor]:
    """`video` `(at most count, T, 3, S, S)`, normalised clips of readable rows, spread over the list; `boxes` `(..., T, 4)` for a sampler
    that looks at them.
    """
    from tasks.core.clips.augment import EvalTransform
    from tasks.core.clips.loader import make_eval_loader

    data: DataConfig = config.data.model_copy(update={"workers": 0, "preload": False})
    spread = rows[:: max(1, len(rows) // count)][: 4 * count]
    transform = EvalTransform(config.augment, config.model.image_size)
    readable = (
        transform.streams(batch) for batch in make_eval_loader([*spread, *rows[:50]], data, None, 1, 0, 1, 1) if len(batch["video"])
    )
    found = list(itertools.islice(readable, count))
    size = config.model.image_size
    if not found:
        return {"video": torch.zeros(0, config.model.frames, 3, size, size)}
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def visualize(method: MaskedPretraining, config: PretrainConfig, rows: list, run: Run) -> Path:
    """Writes `pictures/clip-N.png` into the run folder, the thesis' figure for `config.visualize` clips; returns the folder."""
    folder = run.folder / "pictures"
    device = next(method.parameters()).device
    shown = {name: tensor.to(device) for name, tensor in clips(config, rows, config.visualize).items()}
    write_pictures(method, shown["video"], folder, run.reporter, shown.get("boxes"))
    return folder


def write_pictures(
    method: MaskedPretraining, videos: torch.Tensor, folder: Path, reporter: Reporter, boxes: torch.Tensor | None = None
) -> None:
    """One PNG per clip of `(n, T, 3, S, S)`, with its boxes `(n, T, 4)` where there are some."""
    model = method.config.model
    for number, video in enumerate(videos):
        with replacing(folder / f"clip-{number}.png") as temporary:
            own = None if boxes is None else boxes[number : number + 1]
            temporary.write_bytes(picture(explain(method, video[None], number, own), model.image_size, model.tubelet))
    borrowed = "the clip's mean frame" if method.config.target.kind == "motion" else "each token's own brightness and contrast"
    reporter.info(f"wrote {len(videos)} pictures to {folder} (reconstructions borrow {borrowed} from the input)")
