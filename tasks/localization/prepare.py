"""The features of a run, made before it trains: what is there already, made in the same way, is taken as it is."""

from pathlib import Path

from tasks.core.data.rows import Rows
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.towers.prepare import prepare_features
from tasks.core.towers.produce import FeatureMaker
from tasks.core.towers.remembered import maker_of
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
    return {name: maker_of(given[name]) for name in needed}


def prepare(config: FinetuneConfig, run: Run, rows: Rows) -> FinetuneConfig:
    """The configuration with the features of all videos as `data.streams` (`core.towers.prepare`).

    Args:
        config: of the run, with `towers`.
        run: features go into its folder, and videos that cannot be read into its list, unless `towers.folder` says otherwise.
        rows: of all sets; several rows of a video are one video.
    """
    base = Path(config.towers.folder) if config.towers.folder else None
    streams = prepare_features(makers(config), config, run, rows, base)
    return config.model_copy(update={"data": config.data.model_copy(update={"streams": streams}), "towers": None})
