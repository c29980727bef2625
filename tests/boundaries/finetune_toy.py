"""A small fine-tuning run; also runnable: `python finetune_toy.py FOLDER TRUTH [key=value ...]` trains in FOLDER."""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from tasks.boundaries import finetune
from tasks.boundaries.config import FinetuneConfig
from tasks.core.engine.run import Run
from tasks.core.nn.config import ResNetConfig
from tasks.core.reporter import Quiet

MODEL = ResNetConfig(size="resnet18", width=8, image_size=32, motion={"patch": 5})
PLAIN = MODEL.model_copy(update={"motion": None})  # MotionSqueeze's softmax at temperature 0.01 magnifies the order of a sum a thousandfold


def settings(truth: Path, epochs: int = 60, batch_size: int = 8, every: int = 20, **changes: Any) -> FinetuneConfig:
    """Windows of 3 + 3 frames, a sixth of a second apart."""
    return FinetuneConfig(
        **{
            "model": MODEL,
            "window": {"before": 3, "stride_s": 1 / 6},
            "data": {"train": [str(truth)], "val": [str(truth)], "clip": {"frames": 10}, "repeats": 4, "preload": True, "workers": 0},
            "optim": {"name": "adamw", "base_lr": 2e-3, "scale_lr": False, "weight_decay": 0.01, "warmup_epochs": 2},
            "train": {"epochs": epochs, "batch_size": batch_size, "eval_every_epochs": every, "log_every_steps": 1},
            **changes,
        }
    )


class KillsItself:
    """A `Reporter` that sends this process a signal after so many training steps."""

    def __init__(self, after: int):
        self.left = after

    def info(self, text: str) -> None:
        return None

    def warn(self, text: str) -> None:
        return None

    def progress(self, description: str, total: int | None, unit: str = "it", start: int = 0):
        return nullcontext(self) if unit == "step" else Quiet().progress(description, total)

    def advance(self, n: int = 1, **metrics: float) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder: Path, config: FinetuneConfig, reporter: Any = None) -> dict[str, Any]:
    """Trains in `folder`, or goes on there; returns the result."""
    run = Run.open(folder, config, "boundaries", "finetune", ["test"], reporter)
    try:
        return finetune.run(config, run)
    finally:
        run.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), settings(Path(sys.argv[2]), model=PLAIN, **{k: int(v) for k, v in (pair.split("=") for pair in sys.argv[3:])}))
