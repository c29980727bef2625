"""Tiny settings and batches for the tests of cVCLR; also runnable: `python pretrain_helpers.py FOLDER [key=value ...]` trains in
FOLDER on made-up batches in float64, as one process of a world."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tasks.boundaries.config import PretrainConfig
from tasks.boundaries.method import ClipContrast
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.exchange import encode_shuffled, row_counts
from tasks.core.engine.loop import Trainer
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run
from tasks.core.engine.setup import world

ENCODER = {"size": "resnet18", "width": 8, "image_size": 64, "motion": {"patch": 3, "sigma": 1.0}}


def config(**changes: Any) -> PretrainConfig:
    """Tiny settings; `changes` are top-level keys, with `contrast` and `train` merged into what is here."""
    contrast = {"queue": 12, "dim": 8, "temperature": 0.1, "momentum": 0.9, **changes.pop("contrast", {})}
    train = {"epochs": 5, "batch_size": 2, "log_every_steps": 1, **changes.pop("train", {})}
    settings = {"model": ENCODER, "data": {"clip": {"frames": 2, "stride_frames": 1}}, "optim": {"name": "sgd", "base_lr": 0.001}}
    settings["optim"] |= {"scale_lr": False, "weight_decay": 1e-4}
    return PretrainConfig(**{**settings, "contrast": contrast, "train": train, **changes})


def method(seed: int = 0, **changes: Any) -> ClipContrast:
    torch.manual_seed(seed)
    return ClipContrast(config(**changes))


def batch(rows: int = 4, seed: int = 0, size: int = 64, frames: int = 2) -> dict[str, torch.Tensor]:
    """Views of random pictures, as `PretrainViews` makes them; video i has number i."""
    generator = torch.Generator().manual_seed(seed)
    look = torch.randn(rows, 1, 1, 3, 4, 4, generator=generator)

    def views(*shape: int) -> torch.Tensor:
        coarse = look + 0.5 * torch.randn(rows, *shape, 3, 4, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse.flatten(0, -4), size, mode="bilinear")
        return (smooth + 0.3 * torch.randn(smooth.shape, generator=generator)).unflatten(0, (rows, *shape))

    return {"frames": views(1, 4)[:, 0], "anchor": views(3, frames), "positive": views(3, frames), "uid": torch.arange(rows)}


def progress(step: int = 0) -> Progress:
    return Progress(step, 0, 10, 100)


def rng(step: int = 0, rows: int = 4) -> BatchRandom:
    return BatchRandom(0, step, rows=rows)


def losses(trained: ClipContrast, steps: int, lr: float = 0.001) -> list[dict[str, float]]:
    """What a plain loop over made-up batches logs."""
    optimizer = torch.optim.SGD(trained.optimizers()["main"].groups, lr=lr, momentum=0.9)
    logs = []
    for step in range(steps):
        out = trained(batch(seed=step), rng(step), progress(step))
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        logs.append({name: float(value.detach()) for name, value in out.items()})
    return logs


def batches(start: int, rows: int, rank: int, uneven: bool) -> Iterator[dict[str, Any]]:
    """Rows of the global batch of step `start`, `start + 1`, ... that belong to this process; uneven: the first lacks one row."""
    processes = world().size
    while True:
        whole = batch(rows * processes, start)
        low = rank * rows + (1 if uneven and rank == 0 else 0)
        own = {name: tensor[low : (rank + 1) * rows] for name, tensor in whole.items()}
        yield {**own, "main": "frames", "path": [], "skipped": []}
        start += 1


def train(folder: Path, norm: str = "local", rows: int = 2, steps: int = 4, uneven: bool = False) -> Trainer:
    """Trains a few steps in the world that this process was started in."""
    settings = config(contrast={"norm": norm}, train={"batch_size": rows, "max_steps": steps})
    run = Run.open(folder, settings, "boundaries", "pretrain", ["test"])
    built = method(contrast={"norm": norm})
    trainer = Trainer(
        built,
        run,
        make_accelerator(settings.train, run),
        settings.train,
        settings.optim,
        lambda start: batches(start, rows, world().rank, uneven),
        lambda given, device: {name: given[name].to(device) for name in ("frames", "anchor", "positive", "uid")},
        2,
    )
    try:
        trainer.fit()
    finally:
        run.close()
    return trainer


def shuffled_echo(rows: int) -> dict[str, torch.Tensor]:
    """What the key encoder's shuffle gives to an encoder that does nothing, and which rows that encoder saw."""
    counts = row_counts(rows, torch.device("cpu"))
    own = torch.arange(rows)[:, None] + 10 * world().rank
    saw = []
    echo = encode_shuffled(lambda x: saw.append(x) or x, own, counts, torch.Generator().manual_seed(3))
    return {"own": own, "echo": echo, "saw": saw[0]}


if __name__ == "__main__":
    given = dict(pair.split("=") for pair in sys.argv[2:])
    uneven = given.get("uneven") == "yes"
    torch.set_default_dtype(torch.float64)
    trained = train(Path(sys.argv[1]), given["norm"], int(given["rows"]), uneven=uneven)
    state = trained.accelerator.unwrap_model(trained.model).state_dict()
    torch.save(state | shuffled_echo(3 + world().rank), Path(sys.argv[1]) / f"state-{world().rank}.pt")
