"""`vid pretrain` of InfoNCE, UberNCE and CoCLR, and of video with text."""

from pathlib import Path
from typing import Any

from tasks.contrastive import pairing, stage
from tasks.contrastive.config import CyclesConfig, PretrainConfig, VideoTextConfig
from tasks.contrastive.cycles import stages, train_cycles
from tasks.contrastive.method import METHODS
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    if isinstance(config.method, VideoTextConfig):
        pairing.check(config)
        return
    if config.init and isinstance(config.method, CyclesConfig):
        raise UsageError("coclr-cycles starts both views from random weights", "leave --from out, or run its stages one by one")
    stage.check(config)


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    if isinstance(config.method, VideoTextConfig):
        return pairing.plan(config)
    check(config)
    rows, settings = setup.training_rows(config.data), config
    several = {}
    if isinstance(config.method, CyclesConfig):
        named = stages(config, Path("RUN"))
        several = {"stages": [name for name, _ in named]}
        settings = named[-1][1]
    planned = setup.plan(lambda: METHODS[settings.method.name](settings), settings, rows)
    return {**planned, "method": config.method.name, "view": settings.view, "queue": config.method.queue, **several}


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Trains and writes `model/`; returns the result."""
    if isinstance(config.method, VideoTextConfig):
        return pairing.run(config, run)
    check(config)
    rows = setup.training_rows(config.data)
    if isinstance(config.method, CyclesConfig):
        return train_cycles(config, run, rows)
    what = f"{config.method.name} on {config.view}"
    trainer = setup.train(run, config, stage.build(config), stage.feed(config, rows), what, rows)

    def result() -> dict[str, Any]:
        stage.publish(run, config, trainer.evaluated_model, rows)
        return setup.numbers(run, "loss", "top1", "top5", "mining_precision", method=config.method.name, view=config.view)

    return setup.conclude(run, trainer, result)
