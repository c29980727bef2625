"""Tiny configurations and synthetic batches for the tests of masked pretraining."""

import torch

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.masked.config import PretrainConfig
from tasks.masked.method import POLICY, MaskedPretraining

SAMPLERS = [
    {"name": "random"},
    {"name": "tube"},
    {"name": "adamae", "heads": 2},
    {"name": "tats", "heads": 2, "warmup_epochs": 0},
    {"name": "tats", "heads": 2, "warmup_epochs": 0, "landmarks": 8},
    {"name": "tats", "heads": 2, "warmup_epochs": 0, "attention": "joint"},
    {"name": "tats", "heads": 2, "warmup_epochs": 0, "reward": "video", "ratio_indices": "resampled", "ppo_epochs": 2, "every": 2},
    {"name": "mofo"},
]
MODEL = {"size": "tiny", "dim": 32, "depth": 2, "heads": 2, "image_size": 32, "frames": 4, "tubelet": 2, "patch": 8}


def config(sampler: dict | None = None, **changes) -> PretrainConfig:
    settings = {
        "model": MODEL,
        "decoder": {"dim": 16, "depth": 1, "heads": 1},
        "sampler": sampler or {"name": "random"},
        "mask_ratio": 0.75,
        "data": {"clip": {"frames": 4}},
    }
    settings = {**settings, **changes}
    if settings["sampler"]["name"] == "mofo":
        settings["data"] = {"boxes": "compute", **settings["data"]}
    return PretrainConfig(**settings)


def method(sampler: dict | None = None, seed: int = 0, **changes) -> MaskedPretraining:
    torch.manual_seed(seed)
    return MaskedPretraining(config(sampler, **changes))


def video(n: int = 2, seed: int = 0) -> torch.Tensor:
    """`(n, 4, 3, 32, 32)`: a bright square on a dark ground, moving right."""
    generator = torch.Generator().manual_seed(seed)
    clip = torch.full((n, 4, 3, 32, 32), -1.0)
    for i in range(n):
        x, y = (int(v) for v in torch.randint(0, 16, (2,), generator=generator))
        for t in range(4):
            clip[i, t, :, y : y + 8, x + 2 * t : x + 2 * t + 8] = 1.0
    return clip + 0.05 * torch.randn(clip.shape, generator=generator)


def boxes_of(clips: torch.Tensor) -> torch.Tensor:
    """`(n, 4, 4)` px: around the square of `video`."""
    places = torch.arange(32.0)
    bright = clips.mean(2) > 0
    corners = []
    for seen in (bright.any(2), bright.any(3)):  # columns, rows
        corners.append((torch.where(seen, places, 32.0).amin(2), torch.where(seen, places + 1, 0.0).amax(2)))
    (x1, x2), (y1, y2) = corners
    return torch.stack((x1, y1, x2, y2), -1)


def progress(step: int = 0, epoch: int = 0) -> Progress:
    return Progress(step, epoch, 10, 100)


def rng(step: int = 0, rows: int = 2) -> BatchRandom:
    return BatchRandom(0, step, rows=rows)


def train(
    trained: MaskedPretraining, steps: int, batch: int = 8, lr: float = 1e-3, policy_lr: float = 1e-3, same: bool = False
) -> list[dict[str, float]]:
    """A plain loop over `video`, without the engine; returns what each step logged."""
    optimizers = {
        name: torch.optim.AdamW(spec.groups, lr=policy_lr if name == POLICY else lr, betas=(0.9, 0.95))
        for name, spec in trained.optimizers().items()
    }
    logs = []
    for step in range(steps):
        now = progress(step)
        clips = video(batch, 0 if same else step)
        boxes = {"boxes": boxes_of(clips)} if trained.config.sampler.needs_boxes else {}
        losses = trained({"video": clips, **boxes}, rng(step, batch), now)
        losses["loss"].backward()
        optimizers["main"].step()
        trained.zero_grad()
        row = {k: float(v.detach()) for k, v in losses.items()}
        for phase in trained.phases_after(now):
            update = trained(None, None, now, phase)
            update["loss"].backward()
            optimizers[phase].step()
            trained.zero_grad()
            row |= {f"policy_{k}": float(v.detach()) for k, v in update.items()}
        logs.append(row)
    return logs
