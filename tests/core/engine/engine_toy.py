"""A toy method and loader for tests of the loop; also runnable: `python engine_toy.py FOLDER [key=value ...]` trains in FOLDER."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tasks.core.config import Config
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.engine.loop import Trainer
from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run
from tasks.core.engine.setup import fit_world
from tasks.core.errors import VidError
from tasks.core.world import world

FEATURES = 6


class ToyConfig(Config):
    train: TrainConfig = TrainConfig(epochs=5, batch_size=4, log_every_steps=1, ema=0.9)
    optim: OptimConfig = OptimConfig(base_lr=0.05, scale_lr=False, warmup_epochs=1, clip_grad=1.0)


class Toy(Method):
    """Regression on noisy inputs, with a second optimizer for a bias, so that both phases are exercised."""

    def __init__(self, optim: OptimConfig, poison: int = -1, dropout: float = 0.2):
        super().__init__()
        torch.manual_seed(0)
        self.optim, self.poison = optim, poison
        self.layer = torch.nn.Sequential(torch.nn.Linear(FEATURES, 8), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1))
        self.shift = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[float] = []
        self.when_saved = lambda: None

    def forward(self, batch: dict | None, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, torch.Tensor]:
        if phase != MAIN:
            return {"loss": (self.shift - torch.tensor(self.seen).mean()).square().sum()}
        x = batch["video"] + 0.1 * rng.rand(len(batch["video"]), FEATURES)
        loss = (self.layer(x).squeeze(1) - x.sum(1)).square().mean()
        if progress.step == self.poison:
            loss = loss * float("nan")
        self.seen = [float(progress.step)]
        return {"loss": loss}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        main = OptimizerSpec(make_groups(self.layer.named_parameters(), 0.01), self.optim.base_lr, self.optim.betas, self.optim.clip_grad)
        return {MAIN: main, "shift": OptimizerSpec(make_groups([("shift", self.shift)], 0.0), self.optim.base_lr, self.optim.betas)}

    def phases_after(self, progress: Progress) -> list[str]:
        return ["shift"]

    def extra_state(self) -> list[dict]:
        self.when_saved()
        return [{"seen": self.seen}]

    def load_extra_state(self, state: list[dict]) -> None:
        self.seen = state[0]["seen"]


def batches(start: int, rows: int, rank: int = 0, unreadable: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of the global batch of step `start`, `start + 1`, ... that belong to this process; each may meet a video it cannot read."""
    processes = world().size
    while True:
        whole = torch.rand(rows * processes, FEATURES, generator=torch.Generator().manual_seed(start))
        skipped = [(f"unreadable-{rank}", "broken")] if unreadable and start == 1 else []
        yield {"main": "video", "video": whole[rank * rows :][:rows], "path": [f"video-{start}"], "skipped": skipped}
        start += 1


def train(
    folder: Path,
    *,
    poison: int = -1,
    kill_at: int = -1,
    number: int = signal.SIGKILL,
    in_eval: bool = False,
    in_save: bool = False,
    rank: int = -1,
    dropout: int = 20,
    unreadable: bool = False,
    **changes: Any,
) -> tuple[Trainer, Run]:
    """Trains 10 steps (2 a epoch); may send itself (of several: process `rank`, or all) a signal when batch `kill_at` is prepared, or in
    the evaluation after it, or while the checkpoint after it is written.
    """
    config = ToyConfig(train=ToyConfig().train.model_copy(update=changes))
    run = Run.open(folder, config, "toy", "pretrain", ["test"])
    config = fit_world(folder, config, run.reporter)
    method = Toy(config.optim, poison, dropout / 100)
    accelerator = make_accelerator(config.train, run, uneven=True)

    def strike() -> None:
        if trainer.step == kill_at and rank in (-1, world().rank):
            os.kill(os.getpid(), number)

    def prepare(batch: dict, device: torch.device) -> dict:
        if not in_eval and not in_save:
            strike()
        return {"video": batch["video"].to(device)}

    def evaluate(trainer: Trainer, stop: Any) -> dict[str, float]:
        if in_eval:
            strike()
        stop()
        return {"weight": float(trainer.evaluated_model.layer[0].weight.detach().sum())}

    rows = config.train.batch_size
    trainer = Trainer(
        method,
        run,
        accelerator,
        config.train,
        config.optim,
        lambda start: batches(start, rows, world().rank, unreadable),
        prepare,
        2,
        evaluate=evaluate,
    )
    method.when_saved = strike if in_save else lambda: None
    try:
        trainer.fit()
    finally:
        run.close()
    return trainer, run


if __name__ == "__main__":
    given = {k: int(v) for k, v in (pair.split("=") for pair in sys.argv[2:])}
    torch.set_default_dtype(torch.float64 if given.pop("float64", 0) else torch.float32)
    try:
        train(Path(sys.argv[1]), **given)
    except VidError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
