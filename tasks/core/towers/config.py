"""Settings of feature extraction. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class ExtractConfig(Config):
    """`vid extract-features`."""

    model: str = Field(description="model folder, run folder or hf:// id of a model with an encoder of clips")
    per: Literal["video", "window"] = Field("video", description="one feature for a video, or one for each window of it")
    clips: int = Field(5, ge=1, le=1000, description="per video: clips spread over it, whose features are averaged")
    crops: Literal[1, 3, 10] = Field(
        1, description="squares of a clip that are averaged: the centre; three along the long side; corners and centre, mirrored too"
    )
    hop_s: float | None = Field(None, gt=0, description="per window: seconds from one to the next; null: each begins where one ends")
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    batch_size: int = Field(8, ge=1, description="clips that go through the network at once")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


CONFIGS = {"extract": ExtractConfig}
