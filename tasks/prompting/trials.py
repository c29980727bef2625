"""Few-shot and open-set protocols: many small trainings within one run, and their mean."""

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tasks.core.data.features import FeatureFolder
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.files import write_json
from tasks.core.towers.text_tower import TextTower
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.measurement import ZERO_SHOT, Measurement
from tasks.prompting.metrics import mean_interval
from tasks.prompting.splits import Split, splits
from tasks.prompting.training import build, feature_feed

KEPT = tuple(f"{control}{name}" for control in ("", f"{ZERO_SHOT}_") for name in ("top1", "top5", "avg", "average_map"))


def run_trials(config: FinetuneConfig, run: Run, rows: Rows, val: Rows, folder: FeatureFolder, tower: TextTower) -> dict[str, Any]:
    """Trains and tests every trial that is not done yet; writes `trials.json` and returns mean and 95 % interval.

    Args:
        config: with `trials`; `train.max_steps` is that of each trial.
        run: a trial is a part of it, `trial-000` and so on.
        rows, val: what trials are drawn from.
        folder: features of all videos.
        tower: frozen text tower.
    """
    if run.main:
        run.record_data(rows)
    found = []
    for number, split in enumerate(splits(config.trials, rows, val)):
        part = run.part(f"trial-{number:03d}")
        if not part.finished:
            _trial(config, part, split, folder, tower)
        found.append(part.result)
    result = {"run": str(run.folder), **summary(found), "protocol": shown(config), "seed": config.trials.seed}
    if run.main:
        write_json(run.folder / "trials.json", found)
        run.finish(result)
    return result


def _trial(config: FinetuneConfig, part: Run, split: Split, folder: FeatureFolder, tower: TextTower) -> None:
    method = build(config, tower, split.known)
    what = f"{part.folder.name}: {len(split.train)} videos of {len(split.known)} classes"
    trainer = setup.train(part, config, method, feature_feed(config, split.train, split.known, folder, tower), what)
    trained, device = trainer.evaluated_model.eval(), trainer.accelerator.device
    test = Measurement(config, split.test, split.asked, folder, trained.text.tower, device, part.reporter)
    with torch.no_grad():
        tested = test(trained.model, lambda: None)
    if part.main:
        part.skip(tested.skipped, config.train.strict)
        part.finish({**tested.numbers, "classes": split.asked, "videos": list(split.train.values("path"))})
        shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)  # of hundreds of trials
    trainer.accelerator.wait_for_everyone()


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each number over the trials, and half of its 95 % interval as `NAME_ci95`."""
    told: dict[str, Any] = {}
    for name in KEPT:
        if name in found[0]:
            told[name], told[f"{name}_ci95"] = mean_interval(np.array([each[name] for each in found]))
    return {**told, "trials": len(found), "n_per_trial": float(np.mean([each["n"] for each in found]))}


def shown(config: FinetuneConfig) -> str:
    """The protocol in words."""
    trials = config.trials
    return {"way": f"{trials.shots}-shot {trials.ways}-way", "all": f"{trials.shots}-shot all-way", "open": "open set"}[trials.kind]
