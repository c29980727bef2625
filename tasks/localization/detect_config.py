"""Settings of `vid detect-events`. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class DetectConfig(Config):
    """`vid detect-events`."""

    model: str | None = Field(None, description="model folder, run folder or hf:// id of a localiser")
    min_score: float | None = Field(
        None, ge=0, lt=1, description="events below it are left out; null: the model's own, which leaves out little"
    )
    top: int | None = Field(None, ge=1, description="so many events of a video at most, the best ones; null: as the model says")
    proposals: bool = Field(False, description="events of any kind, without classes: each moment once")
    features: dict[str, str] = Field(default_factory=dict, description="stream -> folder of features that were made before")
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
