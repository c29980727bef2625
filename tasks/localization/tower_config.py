"""Settings of what makes the features of a run. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.config import Config
from tasks.core.towers.config import ExtractConfig, MotionConfig, SoundConfig


class MotionTower(MotionConfig):
    """Histograms of motion, which need no model."""

    kind: Literal["motion"] = "motion"


class EncoderTower(ExtractConfig):
    """What an encoder of clips says of each window."""

    kind: Literal["encoder"] = "encoder"
    per: Literal["window"] = "window"


class SoundTower(SoundConfig):
    """Log-mel spectrograms; a video without sound is silent."""

    silence: bool = True


class TowersConfig(Config):
    """Features that a run makes of its videos before it trains, instead of the folders in `data.streams`."""

    visual: Annotated[MotionTower | EncoderTower, Field(discriminator="kind")] | None = None
    audio: SoundTower | None = None
    folder: str | None = Field(
        None, description="where the features go, visual/ and audio/; runs with the same towers can share it; null: features/ in the run"
    )
