"""The features of a run, made before it trains: what is there already, made in the same way, is taken as it is."""

from pathlib import Path
from typing import Any

from tasks.core.data.feature_config import StreamConfig
from tasks.core.data.inputs import Input, named
from tasks.core.data.rows import Row, Rows
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.run import Run
from tasks.core.errors import InputError, UsageError
from tasks.core.towers.motion import MotionExtractor
from tasks.core.towers.produce import FeatureMaker, produce
from tasks.core.towers.sound import SoundExtractor
from tasks.core.world import world
from tasks.localization.config import FinetuneConfig


def makers(config: FinetuneConfig) -> dict[str, FeatureMaker]:
    """Stream -> what makes its features, of those that the model takes.

    Raises:
        UsageError: the towers are not those that the model needs, or an encoder is not there.
    """
    towers, needed = config.towers, config.model.needed
    if config.data.streams:
        raise UsageError("features come from towers or from data.streams, not from both", "leave one of them out: --set towers=null")
    given = {"visual": towers.visual, "audio": towers.audio}
    if missing := [name for name in needed if given[name] is None]:
        raise UsageError(f"model.input is {config.model.input}, and towers.{missing[0]} is not set", "set it, or model.input")
    return {name: _maker(given[name]) for name in needed}


def _maker(tower: Any) -> FeatureMaker:
    kind = getattr(tower, "kind", "sound")
    if kind == "sound":
        return SoundExtractor(tower)
    if kind == "motion":
        return MotionExtractor(tower)
    from tasks.core.towers.extract import Extractor

    return Extractor(tower)


def prepare(config: FinetuneConfig, run: Run, rows: Rows) -> FinetuneConfig:
    """Makes the features of all videos that have none yet, each process its share; returns the configuration with the folders in
    `data.streams`.

    Args:
        config: of the run, with `towers`.
        run: features go into its folder, and videos that cannot be read into its list, unless `towers.folder` says otherwise.
        rows: of all sets; several rows of a video are one video.
    """
    base = Path(config.towers.folder) if config.towers.folder else run.folder / "features"
    inputs = inputs_of(rows)
    refused: dict[str, str] = {}
    for name, maker in makers(config).items():
        own = inputs[world().share]
        for record in produce(maker, own, base / name, False, run.reporter, inputs, f"{name} features"):
            if "error" in record:
                refused[record["video"]] = record["error"]
    make_accelerator(config.train, run).wait_for_everyone()
    run.skip(list(refused.items()), config.train.strict)
    if len(refused) == len(inputs):
        path, reason = next(iter(refused.items()))
        raise InputError(f"none of {len(inputs)} videos can be read; {path}: {reason}", "vid data check MANIFEST looks at every file")
    streams = {name: StreamConfig(folder=str(base / name)) for name in config.model.needed}
    return config.model_copy(update={"data": config.data.model_copy(update={"streams": streams}), "towers": None})


def inputs_of(rows: Rows) -> list[Input]:
    """The videos of rows, each once, whole, by the names under which features of them are found."""
    return named((Row(path), path) for path in dict.fromkeys(rows.values("path")))
