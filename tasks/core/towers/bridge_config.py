"""Settings of a picture classifier that is bridged to a text tower. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class BridgeConfig(Config):
    """Class probabilities times the text vectors of the classes' names (ConSE)."""

    network: Literal["efficientnet-lite0"] = Field("efficientnet-lite0", description="the classifier of pictures")
    classes: int = Field(1000, ge=2, le=1_000_000)
    image_size: int = Field(224, ge=32, le=16_384, description="side of the square input, px")
    dim: int = Field(384, ge=1, le=65_536, description="length of a text vector")
    top: int = Field(10, ge=1, description="likeliest classes whose names are mixed; the paper's T")
