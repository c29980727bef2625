"""`vid pretrain` of Temporal Alignment Networks: features, where the run makes them, then one stage or both."""

from pathlib import Path
from typing import Any

from tasks.alignment import stage
from tasks.alignment.config import CorrespondenceConfig, CotrainConfig, PretrainConfig, StagesConfig
from tasks.alignment.method import METHODS
from tasks.core.data.streams import open_streams
from tasks.core.engine import setup
from tasks.core.engine.run import Run, hash_rows
from tasks.core.engine.stages import Stage, stage_numbers, train_stages
from tasks.core.errors import UsageError
from tasks.core.towers.prepare import prepare_features
from tasks.core.towers.produce import FeatureMaker
from tasks.core.towers.remembered import maker_of

NAMES = ("1-tan", "2-tan-cotrain")


def check(config: PretrainConfig) -> None:
    """What no single setting can check, before anything is written; raises UsageError or InputError."""
    stage.training_set(config)
    length, table = config.data.max_length, config.model.positions
    if length is not None and table is not None and length > table:
        raise UsageError(f"windows of {length} features need a table of as many positions", f"--set model.positions={2 * length}")
    if isinstance(config.method, StagesConfig) and config.init:
        raise UsageError("tan-stages starts from random weights", "leave --from out, or run its stages one by one")
    if config.towers:
        makers(config)
    else:
        folders = open_streams(config.data)
        if not isinstance(config.method, StagesConfig):
            stage.check_start(config, folders)


def makers(config: PretrainConfig) -> dict[str, FeatureMaker]:
    """Stream -> what makes its features. Raises UsageError where folders are given too, or an encoder is not there."""
    if config.data.streams:
        raise UsageError("features come from towers or from data.streams, not from both", "leave one of them out: --set towers={}")
    return {name: maker_of(tower) for name, tower in config.towers.items()}


def stages(config: PretrainConfig, folder: Path) -> list[Stage]:
    """(name, settings) of both stages; the second starts from the model of the first, in `folder`."""
    values = config.method.model_dump(exclude={"name", "first_epochs", "second_lr"})
    first = CorrespondenceConfig(temperature=config.method.temperature)
    short = config.train.model_copy(update={"epochs": config.method.first_epochs})
    slower = config.optim.model_copy(update={"base_lr": config.method.second_lr or config.optim.base_lr})
    then = {"method": CotrainConfig(**values), "init": str(folder / NAMES[0]), "optim": slower}
    return list(zip(NAMES, (config.model_copy(update={"method": first, "train": short}), config.model_copy(update=then)), strict=True))


def plan(config: PretrainConfig) -> dict[str, Any]:
    """What `run` would do."""
    check(config)
    found = stage.training_set(config)
    texts = stage.texts_of(config, found)
    settings = stages(config, Path("RUN"))[-1][1] if isinstance(config.method, StagesConfig) else config
    made = makers(config) if config.towers else open_streams(config.data)
    dim = sum(each.dim for each in made.values())
    words = None if texts.vocabulary is None else len(texts.vocabulary)
    planned = setup.plan(lambda: METHODS[settings.method.name](settings, dim, texts.width, words), settings, stage.videos(found))
    planned.pop("clips_per_step")
    several = {"stages": list(NAMES)} if settings is not config else {}
    facts = {"method": config.method.name, "sentences": len(found.rows), "words": words, "channels": dim, **several}
    return {**planned, **facts, "data_hash": hash_rows(found.rows)}


def run(config: PretrainConfig, run: Run) -> dict[str, Any]:
    """Makes features where asked, trains and writes `model/`; returns the result."""
    check(config)
    found = stage.training_set(config)
    if run.main:
        run.skip(found.skipped, config.train.strict)
    if config.towers:
        base = Path(config.features) if config.features else None
        streams = prepare_features(makers(config), config, run, found.rows, base)
        config = config.model_copy(update={"data": config.data.model_copy(update={"streams": streams}), "towers": {}})
    if isinstance(config.method, StagesConfig):
        return run_both(config, run, found)
    trainer, *made = stage.train(run, config, found, found.rows)

    def result() -> dict[str, Any]:
        stage.publish(run, config, trainer.evaluated_model, *made, found)
        return setup.numbers(run, "loss", "changed", method=config.method.name)

    return setup.conclude(run, trainer, result)


def run_both(config: PretrainConfig, run: Run, found: Any) -> dict[str, Any]:
    """Stage 1, then stage 2 from it; `model/` is that of stage 2."""

    def train(number: int, name: str, settings: PretrainConfig) -> None:
        what = f"stage {name}, {settings.train.epochs} epochs"
        trainer, *made = stage.train(run.part(name), settings, found, None, number, what)
        if run.main:
            stage.publish(run, settings, trainer.evaluated_model, *made, found, run.folder / name / "model")

    def result() -> dict[str, Any]:
        told = {"run": str(run.folder), "model": str(run.folder / "model"), "method": config.method.name}
        return {**told, **stage_numbers(run, NAMES, "loss", "changed"), "n_skipped": len(run.skipped)}

    return train_stages(run, config, found.rows, stages(config, run.folder), train, {"model": NAMES[-1]}, result)
