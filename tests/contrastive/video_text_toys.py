"""Tiny settings and batches for the tests of video-text pretraining; also runnable: `python video_text_toys.py FOLDER TEXT [uneven]` trains
in FOLDER on made-up batches in float64, as one process of a world."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.video_text import VideoTextPretraining
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run
from tasks.core.world import world

MODEL = {"family": "vit", "dim": 32, "depth": 2, "heads": 2, "image_size": 32, "frames": 4, "patch": 8, "class_token": True}
TEXT_DIM, DIM, LONGEST, VOCABULARY = 10, 12, 6, 20
NEW = {"width": 16, "depth": 1, "heads": 2, "context": LONGEST}
DROPOUT = {"mask": 0.75, "reconstruct": 0.25, "decoder": {"dim": 16, "depth": 1, "heads": 1}}
PROGRESS = Progress(0, 0, 10, 100)


def config(text: str = "frozen", **changes: Any) -> PretrainConfig:
    """Tiny settings; `text` is frozen, mapped (frozen, with a map behind it) or new; `method` and `train` change what is here."""
    chosen = {"frozen": {}, "mapped": {"dim": DIM}, "new": {"dim": DIM, "text": {"new": NEW}}}[text]
    method = {"name": "video-text", "dropout": DROPOUT, **chosen, **changes.pop("method", {})}
    train = {"epochs": 5, "batch_size": 4, "log_every_steps": 1, "precision": "fp32", **changes.pop("train", {})}
    optim = {"base_lr": 1e-3, "scale_lr": False, "schedule": "constant", "betas": (0.9, 0.98), **changes.pop("optim", {})}
    data = {"clip": {"frames": MODEL["frames"], "stride_frames": 1}, **changes.pop("data", {})}
    return PretrainConfig(**{"method": method, "model": MODEL, "data": data, "train": train, "optim": optim, **changes})


def method(text: str = "frozen", seed: int = 0, **changes: Any) -> VideoTextPretraining:
    """With seeded weights."""
    torch.manual_seed(seed)
    return VideoTextPretraining(config(text, **changes), *((None, VOCABULARY) if text == "new" else (TEXT_DIM,)))


def batch(rows: int = 4, seed: int = 0, text: str = "frozen") -> dict[str, torch.Tensor]:
    """Random clips and sentences."""
    draws = np.random.default_rng(seed)
    side, frames = MODEL["image_size"], MODEL["frames"]
    video = torch.from_numpy(draws.standard_normal((rows, frames, 3, side, side))).to(torch.get_default_dtype())
    if text != "new":
        return {"video": video, "text": torch.from_numpy(draws.standard_normal((rows, TEXT_DIM))).to(torch.get_default_dtype())}
    ids = torch.from_numpy(draws.integers(1, VOCABULARY, (rows, LONGEST)))
    return {"video": video, "ids": ids, "end": torch.arange(rows) % (LONGEST - 1) + 1}


def losses(made: VideoTextPretraining, given: dict[str, torch.Tensor], step: int = 0) -> dict[str, torch.Tensor]:
    """Of one step."""
    return made(given, BatchRandom(0, step, 0, len(given["video"])), PROGRESS)


def batches(start: int, rows: int, text: str, uneven: bool) -> Iterator[dict[str, Any]]:
    """Rows of the global batch of step `start`, `start + 1`, ... that belong to this process; uneven: its last row is missing."""
    rank, processes = world()
    while True:
        whole = batch(rows * processes, start, text)
        own = {name: tensor[rank * rows : (rank + 1) * rows] for name, tensor in whole.items()}
        if uneven and rank == processes - 1:
            own = {name: tensor[:-1] for name, tensor in own.items()}
        yield {**own, "main": "video", "path": [], "skipped": []}
        start += 1


def train(folder: Path, text: str, rows: int, uneven: bool = False, dropout: dict | None = None) -> VideoTextPretraining:
    """Trains three steps in float64 and saves the state of the method as `RANK.pt`."""
    steep = {"name": "sgd", "base_lr": 1e-2}  # AdamW makes steps of rounding where a gradient is 0
    made = method(text, method={"dropout": dropout} if dropout else {}, train={"batch_size": rows, "max_steps": 3}, optim=steep)
    settings = made.config
    run = Run.open(folder / f"run{rows}", settings, "contrastive", "pretrain", ["test"])
    trainer = Trainer(
        made,
        run,
        make_accelerator(settings.train, run),
        settings.train,
        settings.optim,
        lambda start: batches(start, rows, text, uneven),
        lambda given, device: {name: value for name, value in given.items() if isinstance(value, torch.Tensor)},
        10,
    )
    trainer.fit()
    run.close()
    torch.save(made.state_dict(), folder / f"{world().rank}.pt")
    return made


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    uneven = "uneven" in sys.argv
    train(Path(sys.argv[1]), sys.argv[2], 3, uneven, {"mask": 0.5, "reconstruct": 0.0} if uneven else None)
    torch.distributed.destroy_process_group()
