"""Settings of what makes the features of a run. Imports no torch."""

from typing import Annotated

from pydantic import Field

from tasks.core.config import Config
from tasks.core.towers.made_config import EncoderTower, MotionTower, SoundTower


class TowersConfig(Config):
    """Features that a run makes of its videos before it trains, instead of the folders in `data.streams`."""

    visual: Annotated[MotionTower | EncoderTower, Field(discriminator="kind")] | None = None
    audio: SoundTower | None = None
    folder: str | None = Field(
        None, description="where the features go, visual/ and audio/; runs with the same towers can share it; null: features/ in the run"
    )
