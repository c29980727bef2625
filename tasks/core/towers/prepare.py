"""Features that a run needs of its videos, made before it trains: what is there already, made in the same way, is taken as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.core.data.feature_config import StreamConfig
from tasks.core.data.inputs import Input, named
from tasks.core.data.rows import Row, Rows
from tasks.core.engine.accelerator import make_accelerator
from tasks.core.engine.run import Run
from tasks.core.errors import InputError
from tasks.core.towers.produce import FeatureMaker, produce
from tasks.core.world import world


def prepare_features(makers: Mapping[str, FeatureMaker], config: Any, run: Run, rows: Rows, base: Path | None) -> dict[str, StreamConfig]:
    """Makes the features of all videos that have none yet, each process its share.

    Features made by another tower, or by this one as it was before its weights changed, are made anew; of videos that are not among `rows`
    they are not touched, and the run stops.

    Args:
        makers: name of a stream: what makes its features, e.g. `Extractor(ExtractConfig(model="hf://org/clip", per="window", hop_s=0.5))`.
        config: of the run; has `train`.
        run: videos that cannot be read go into its list.
        rows: of all sets; several rows of a video are one video.
        base: the features go into `base/NAME`; None: `features/NAME` in the run's folder.

    Returns:
        the folders, for `data.streams` (`core.data.streams.open_streams`).

    Raises:
        InputError: no video can be read.
        UsageError: a folder holds features of other videos by another tower.
    """
    base = base or run.folder / "features"
    inputs = inputs_of(rows)
    refused: dict[str, str] = {}
    for name, maker in makers.items():
        own = inputs[world().share]
        for record in produce(maker, own, base / name, False, run.reporter, inputs, f"{name} features"):
            if "error" in record:
                refused[record["video"]] = record["error"]
    make_accelerator(config.train, run).wait_for_everyone()
    run.skip(list(refused.items()), config.train.strict)
    if len(refused) == len(inputs):
        path, reason = next(iter(refused.items()))
        raise InputError(f"none of {len(inputs)} videos can be read; {path}: {reason}", "vid data check MANIFEST looks at every file")
    return {name: StreamConfig(folder=str(base / name)) for name in makers}


def inputs_of(rows: Rows) -> list[Input]:
    """The videos of rows, each once, whole, by the names under which features of them are found."""
    return named((Row(path), path) for path in dict.fromkeys(rows.values("path")))
