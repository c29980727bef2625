"""What makes features: from the settings of a run, or from what a model remembers of the features it learned from."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tasks.core.audio.read import open_sound
from tasks.core.data.feature_record import open_like
from tasks.core.data.feature_sidecar import describe, steps_of
from tasks.core.data.features import FeatureFolder
from tasks.core.data.grid import Grid
from tasks.core.errors import UsageError
from tasks.core.inference.loop import Advance, still
from tasks.core.towers.config import ExtractConfig, MotionConfig, SoundConfig
from tasks.core.towers.made_config import EncoderTower, MotionTower, SoundTower
from tasks.core.towers.motion import REFERENCE as MOTION
from tasks.core.towers.motion import MotionExtractor
from tasks.core.towers.produce import FeatureMaker
from tasks.core.towers.sound import SoundExtractor


class Tower:
    """One stream of features, made from an open video as it is gone through.

    Args:
        maker: makes them.

    Attributes:
        maker: as given.
        hears: it is about the sound.
    """

    def __init__(self, maker: FeatureMaker):
        self.maker, self.hears = maker, isinstance(maker, SoundExtractor)

    @property
    def steps(self) -> dict[str, float | None]:
        """`stride_s` and `span_s`; None for what follows each video's frame rate."""
        return self.maker.steps

    def open(self, path: str, silent: bool = True) -> AbstractContextManager[Any]:
        """The sound of a file. Only of a tower that hears; raises VideoError as `open_sound`.

        Args:
            path: the file.
            silent: a file without sound counts as silence; False: it is an error.
        """
        return open_sound(path, self.maker.config.logmel.sample_rate, "silence" if silent else "error")

    def stream(
        self, opened: Any, start_s: float | None, end_s: float | None, advance: Advance = still
    ) -> tuple[Grid, Iterator[np.ndarray]]:
        """The grid, and the features (n, dim) block after block.

        Args:
            opened: a video reader, or what `open` gives.
            start_s, end_s: the part that counts, seconds; None: from the beginning, to the end.
            advance: told of the frames that are behind.
        """
        grid, blocks = self.maker.stream(opened, start_s, end_s, advance)
        return grid, (block[0] if isinstance(block, tuple) else block for block in blocks)


def maker_of(tower: MotionTower | EncoderTower | SoundTower) -> FeatureMaker:
    """What makes features as the settings of a run say; UsageError where an encoder is not there."""
    if tower.kind == "sound":
        return SoundExtractor(tower)
    if tower.kind == "motion":
        return MotionExtractor(tower)
    from tasks.core.towers.extract import Extractor

    return Extractor(tower)


def tower_of(stream: str, record: Mapping[str, Any], source: str, device: str = "auto", decoder: str = "auto") -> Tower:
    """The tower that makes features like those that a model learned from.

    Args:
        stream: its name, for messages.
        record: of `core.data.feature_record.record_of`.
        source: the model, for messages.
        device, decoder: of encoders with weights; of readers.

    Raises:
        UsageError: features of another program, or an encoder that is not there any more, or has changed.
    """
    maker = _maker(stream, record, source, device, decoder)
    here, learned = (_kind(each) for each in ((maker.made_by, maker.steps), (record["encoder"], record["grid"])))
    if here != learned:
        name = record["encoder"].get("reference")
        raise UsageError(
            f"{source} learned from {name} as it was, now it is another ({steps_of(maker.steps)}; {steps_of(record['grid'])} then)",
            f"give features that were made with it: --features {stream}=FOLDER",
        )
    return Tower(maker)


def _maker(stream: str, record: Mapping[str, Any], source: str, device: str, decoder: str) -> FeatureMaker:
    encoder, grid = record["encoder"], record["grid"]
    if encoder.get("reference") == MOTION and "motion" in encoder:
        return MotionExtractor(MotionConfig(**encoder["motion"], hop_s=grid["stride_s"], decoder=decoder))
    if "logmel" in encoder:
        hop_s = encoder["logmel"]["hop_s"]
        pool = encoder.get("pool", "stack")
        return SoundExtractor(
            SoundConfig(logmel=encoder["logmel"], hop_s=grid["stride_s"], span_s=encoder["frames"] * hop_s, pool=pool, silence=True)
        )
    if encoder.get("weights_hash") and "crops" in encoder:
        from tasks.core.towers.extract import Extractor

        made = {"per": "window", "hop_s": grid["stride_s"], "crops": encoder["crops"]}
        return Extractor(ExtractConfig(model=encoder["reference"], device=device, decoder=decoder, **made))
    raise UsageError(
        f"{source} learned from features of {encoder.get('reference') or 'an unnamed encoder'} ({stream}), which this tool cannot make",
        f"give them: --features {stream}=FOLDER, made by the same program",
    )


def _kind(made: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    encoder, steps = made
    return describe(encoder, steps, "npz", "float32")["id"]


def given_folders(given: Mapping[str, str], records: Mapping[str, Any], source: str) -> dict[str, FeatureFolder]:
    """Folders of features that a person gave for a model, by the name of their stream.

    Args:
        given: stream -> folder; the grid of those that another program wrote is the one that the model learned from.
        records: stream -> `core.data.feature_record.record_of`.
        source: the model, for messages.

    Raises:
        UsageError: the model has no such stream, or the folder holds other features than it learned from.
    """
    found = {}
    for name, path in given.items():
        if name not in records:
            raise UsageError(f"{source} has no stream '{name}'", f"it has {', '.join(records)}")
        found[name] = open_like(records[name], path)
    return found
