"""Tiny settings and batches for the tests of contrastive pretraining; also runnable: `python contrastive_helpers.py FOLDER METHOD
[uneven]` trains in FOLDER on made-up batches in float64, as one process of a world."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tasks.contrastive.config import PretrainConfig
from tasks.contrastive.method import METHODS, InfoNCE
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.loop import Trainer
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run
from tasks.core.world import world
from vidcli.app import main

STAGES = ("1-infonce-rgb", "2-infonce-flow", "3-coclr-rgb", "4-coclr-flow")
TINY = ["model.width=0.05", "model.image_size=32", "model.projection=8", "data.clip.frames=4", "data.workers=0", "data.short_side=32"]
TINY += ["train.batch_size=2", "train.max_steps=3", "train.log_every_steps=1", "train.save_every_steps=1", "train.keep_last=9"]
TINY += ["method.queue=4", "optim.schedule=constant", "optim.milestones=[]"]
MINING = ["method.topk=1", "method.scratch=[]", "method.first.milestones=[]", "method.then.milestones=[]"]
PROGRESS = Progress(0, 0, 10, 100)
MODEL = {"width": 0.05, "image_size": 32, "projection": 8}
FLOW = {"compute": {"method": "dis", "short_side": 32}}
FRAMES, SIDE = 4, 32


def command(preset: str, videos: Path, out: Path, *sets: str) -> list[str]:
    """The words of `vid pretrain` at a tiny size."""
    given = [word for key in (*TINY, *sets) for word in ("--set", key)]
    return ["pretrain", "--preset", f"contrastive/{preset}", "--data", str(videos), "--out", str(out), "-q", *given]


def vid(preset: str, videos: Path, out: Path, *sets: str) -> int:
    """Exit code of `vid pretrain`."""
    return main(command(preset, videos, out, *sets))


def config(name: str = "infonce", **changes: Any) -> PretrainConfig:
    """Tiny settings; `changes` are top-level keys, with `method`, `data` and `train` merged into what is here."""
    method = {"name": name, "queue": 8, "momentum": 0.9, **changes.pop("method", {})}
    if name.startswith("coclr"):
        method = {"topk": 2, "self_mask_prob": 0.0, **method}
    data = {
        "clip": {"frames": FRAMES, "stride_frames": 1},
        **({"flow": FLOW} if name.startswith("coclr") else {}),
        **changes.pop("data", {}),
    }
    train = {"epochs": 5, "batch_size": 2, "log_every_steps": 1, "precision": "fp32", **changes.pop("train", {})}
    optim = {"name": "sgd", "base_lr": 1e-7, "scale_lr": False, "schedule": "constant", "weight_decay": 0.0, **changes.pop("optim", {})}
    return PretrainConfig(method=method, data=data, train=train, optim=optim, **{"model": MODEL, **changes})


def method(name: str = "infonce", seed: int = 0, **changes: Any) -> InfoNCE:
    torch.manual_seed(seed)
    return METHODS[name](config(name, **changes))


def rng(step: int = 0, rows: int = 4) -> BatchRandom:
    return BatchRandom(0, step, rows=rows)


def batch(rows: int = 4, seed: int = 0, first: int = 0) -> dict[str, torch.Tensor]:
    """Pairs of clips of random pictures with a look of their own for each video; video i has the number `first` + i, labels alternate."""
    generator = torch.Generator().manual_seed(seed)

    def pairs() -> torch.Tensor:
        look = torch.randn(rows, 1, 1, 3, SIDE, SIDE, generator=generator)
        return look + 0.3 * torch.randn(rows, 2, FRAMES, 3, SIDE, SIDE, generator=generator)

    numbers = first + torch.arange(rows)
    return {"video": pairs(), "flow": pairs(), "source": numbers, "label": numbers % 2}


def batches(start: int, rows: int, rank: int, uneven: bool) -> Iterator[dict[str, Any]]:
    """Rows of the global batch of step `start`, `start + 1`, ... that belong to this process; uneven: the first lacks one row."""
    processes = world().size
    while True:
        whole = batch(rows * processes, start, first=start * rows * processes)
        low = rank * rows + (1 if uneven and rank == 0 else 0)
        own = {name: tensor[low : (rank + 1) * rows] for name, tensor in whole.items()}
        yield {**own, "main": "video", "path": [], "skipped": []}
        start += 1


def train(folder: Path, name: str, rows: int, uneven: bool = False, steps: int = 4) -> InfoNCE:
    """Trains in float64 and saves the state of the method as `RANK.pt`."""
    settings = config(name, method={"norm": "sync", "queue": 8}, train={"batch_size": rows, "max_steps": steps})
    made = METHODS[name](settings)
    run = Run.open(folder / f"run{world().rank}" if world().size == 1 else folder / "run", settings, "contrastive", "pretrain", ["test"])
    trainer = Trainer(
        made,
        run,
        make_accelerator(settings.train, run),
        settings.train,
        settings.optim,
        lambda start: batches(start, rows, world().rank, uneven),
        lambda given, device: given,
        10,
    )
    trainer.fit()
    run.close()
    torch.save(made.state_dict(), folder / f"{world().rank}.pt")
    return made


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train(Path(sys.argv[1]), sys.argv[2], 2, "uneven" in sys.argv)
    torch.distributed.destroy_process_group()
