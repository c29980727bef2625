"""All of CoCLR in one run: InfoNCE on RGB and on flow, then cycles in which each learns from what the other mines (thesis section 4.3).

Every stage is a run of the loop in a folder of its own, `1-infonce-rgb`, `2-infonce-flow`, `3-coclr-rgb`, ..., with its own `model/`.
"""

from pathlib import Path
from typing import Any

from tasks.contrastive import stage
from tasks.contrastive.config import CyclesConfig, PretrainConfig, StageConfig, View
from tasks.core.data.rows import Rows
from tasks.core.engine import setup
from tasks.core.engine.run import Run
from tasks.core.engine.stages import Stage, stage_numbers, train_stages

VIEWS: tuple[View, View] = ("rgb", "flow")


def stages(config: PretrainConfig, folder: Path) -> list[Stage]:
    """(name, settings) of every stage in order.

    Args:
        config: with `method` of kind coclr-cycles.
        folder: of the run; a stage starts from the models of those before, which lie in there.
    """
    method = config.method
    shared = {key: getattr(method, key) for key in ("queue", "momentum", "temperature", "norm")}
    mining = {key: getattr(method, key) for key in ("topk", "siblings", "self_mask_prob")}
    found: list[Stage] = []
    newest: dict[View, str] = {}
    for number in range(2 * (1 + method.cycles)):
        view: View = VIEWS[number % 2]
        kind, length = ("infonce", method.first) if number < 2 else ("coclr", method.then)
        name = f"{number + 1}-{kind}-{view}"
        if kind == "infonce":
            chosen: dict[str, Any] = {"name": kind, **shared}
        else:
            chosen = {"name": kind, **shared, **mining, "view": view, "miner": newest[VIEWS[1 - number % 2]]}
        start = None if number in (2, 3) and view in method.scratch else newest.get(view)
        found.append((name, _settings(config, chosen, view, length, start)))
        newest[view] = str(folder / name)
    return found


def _settings(config: PretrainConfig, method: dict[str, Any], view: View, length: StageConfig, init: str | None) -> PretrainConfig:
    """The settings of one stage: one stream for InfoNCE, both for CoCLR."""
    values = config.model_dump(exclude={"method", "init"})
    if method["name"] == "infonce":
        values["data"]["flow"] = None if view == "rgb" else {**values["data"]["flow"], "frames": False}
    values["train"]["epochs"] = length.epochs
    if length.milestones:
        values["optim"] |= {"schedule": "steps", "milestones": length.milestones}
    return PretrainConfig(**values, method=method, init=init)


def train_cycles(config: PretrainConfig, run: Run, rows: Rows) -> dict[str, Any]:
    """Trains all stages (`core.engine.stages`); `model/` is the last of RGB, `model-flow/` of flow."""
    named = stages(config, run.folder)
    names = [name for name, _ in named]
    models = dict(zip(("model", "model-flow"), names[-2:], strict=True))

    def train(number: int, name: str, settings: PretrainConfig) -> None:
        _train(run, number, name, settings, rows)

    return train_stages(run, config, rows, named, train, models, lambda: summary(run, config.method, names))


def _train(run: Run, number: int, name: str, settings: PretrainConfig, rows: Rows) -> None:
    """One stage to its end, and its model."""
    stage.check(settings)
    what = f"stage {name}, {settings.train.epochs} epochs"
    trained = setup.train(run.part(name), settings, stage.build(settings, number), stage.feed(settings, rows), what)
    if run.main:
        stage.publish(run, settings, trained.evaluated_model, rows, run.folder / name / "model")


def summary(run: Run, method: CyclesConfig, names: list[str]) -> dict[str, Any]:
    """Last logged numbers of every stage."""
    told = {"run": str(run.folder), "model": str(run.folder / "model"), "model_flow": str(run.folder / "model-flow")}
    numbers = stage_numbers(run, names, "loss", "top1", "mining_precision")
    return {**told, **numbers, "cycles": method.cycles, "n_skipped": len(run.skipped)}
