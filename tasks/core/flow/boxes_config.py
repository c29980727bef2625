"""Settings of motion boxes. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class MotionBoxConfig(Config):
    """Where things move in a video, found without a detector: one box per frame (MOFO, Ahmadian et al., NeurIPS workshop 2023)."""

    mode: Literal["paper", "code"] = Field(
        "paper", description="paper: motion boundaries of each frame, box around what moves; code: numbers of the public code, wide boxes"
    )
    flow: Literal["tvl1", "dis"] = Field("tvl1", description="tvl1: as the paper, for a GPU; dis: OpenCV's fast flow, on the CPU")
    short_side: int = Field(
        240, ge=32, description="frames are scaled down to it where theirs is longer, px; small ones are enlarged to 128"
    )
