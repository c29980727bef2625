"""Tiny settings and batches for the tests of DPC and MemDPC; also runnable: `python predictive_toys.py FOLDER METHOD ROWS NEGATIVES` trains
in FOLDER on made-up batches in float64, as one process of a world."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run
from tasks.core.world import world
from tasks.predictive.config import PretrainConfig
from tasks.predictive.method import Prediction

MODEL = {"width": 4, "image_size": 64, "block_frames": 2, "predict": 2, "dropout": 0.0}
METHODS = {"dpc": {"name": "dpc"}, "memdpc": {"name": "memdpc", "slots": 6}}
OWN = {"dpc": {"statistics": "batch"}, "memdpc": {"bidirectional": True}}


def config(method: str = "dpc", **changes: Any) -> PretrainConfig:
    """Tiny settings: 4 blocks of 2 frames, 2 of them predicted; `method`, `model` and `train` of `changes` are merged into what is here."""
    given = {**METHODS[method], **changes.pop("method_settings", {})}
    model = {**MODEL, **OWN[method], **changes.pop("model", {})}
    train = {"epochs": 5, "batch_size": 2, "log_every_steps": 1, "precision": "fp32", **changes.pop("train", {})}
    data = {"clip": {"frames": 8, "stride_frames": 1}, "workers": 0, **changes.pop("data", {})}
    optim = {"name": "adam", "base_lr": 1e-3, "scale_lr": False, "schedule": "constant", "betas": (0.9, 0.999), "weight_decay": 1e-5}
    optim |= changes.pop("optim", {})
    return PretrainConfig(**{"method": given, "model": model, "train": train, "data": data, "optim": optim, **changes})


def method(name: str = "dpc", seed: int = 0, **changes: Any) -> Prediction:
    torch.manual_seed(seed)
    return Prediction(config(name, **changes))


def clips(rows: int = 2, seed: int = 0, frames: int = 8, size: int = 64) -> torch.Tensor:
    """Smooth random clips that change over time."""
    coarse = torch.randn(rows * frames, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear").unflatten(0, (rows, frames))


def forward(trained: Prediction, video: torch.Tensor, step: int = 0) -> dict[str, torch.Tensor]:
    return trained({"video": video}, BatchRandom(0, step, rows=len(video)), Progress(step, 0, 10, 100))


def losses(trained: Prediction, steps: int, lr: float = 1e-2) -> list[float]:
    """Of plain gradient descent."""
    optimizer, found = torch.optim.SGD(trained.parameters(), lr=lr), []
    for step in range(steps):
        loss = forward(trained, clips(3, step), step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def batches(start: int, rows: int) -> Iterator[dict[str, Any]]:
    """The rows of every global batch that belong to this process."""
    while True:
        whole = clips(rows * world().size, start)
        yield {"main": "video", "video": whole[world().rank * rows :][:rows], "path": [], "skipped": []}
        start += 1


def train(folder: Path, name: str, rows: int, negatives: str = "all", steps: int = 3) -> Trainer:
    """Trains a few steps in the world that this process was started in, with batch norms of all processes."""
    settings = config(name, method_settings={"negatives": negatives, "norm": "sync"}, train={"batch_size": rows, "max_steps": steps})
    run = Run.open(folder, settings, "predictive", "pretrain", ["test"])
    torch.manual_seed(0)
    built = Prediction(settings)
    trainer = Trainer(
        built,
        run,
        make_accelerator(settings.train, run),
        settings.train,
        settings.optim,
        lambda start: batches(start, rows),
        lambda given, device: {"video": given["video"].to(device)},
        2,
    )
    try:
        trainer.fit()
    finally:
        run.close()
    return trainer


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    trained = train(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
    torch.save(trained.accelerator.unwrap_model(trained.model).state_dict(), Path(sys.argv[1]) / f"state-{world().rank}.pt")
