"""Settings of optical flow. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class TVL1Config(Config):
    """TV-L1 optical flow; the defaults are those of OpenCV's `DualTVL1OpticalFlow`.

    Symbols as in Sánchez, Meinhardt-Llopis, Facciolo 2013 (IPOL), section 3. OpenCV's `gamma` (a third unknown for changing light, off by
    default) and its start from a given flow are left out.
    """

    tau: float = Field(0.25, gt=0, description="step of the dual ascent; above 0.25 it may not converge")
    lam: float = Field(0.15, gt=0, description="lambda, weight of the data term; smaller is smoother")
    theta: float = Field(0.3, gt=0, description="how tightly the two halves of the problem are coupled")
    scales: int = Field(5, ge=1, description="levels of the pyramid at most; none gets a side under 16 px")
    scale_step: float = Field(0.8, gt=0, lt=1, description="size of a level over that of the finer one")
    warps: int = Field(5, ge=1, description="linearisations of the second frame per level")
    epsilon: float = Field(0.01, ge=0, description="a pair stops when the root mean square change of its flow falls to this, px")
    inner_iterations: int = Field(30, ge=1, description="iterations between two median filters")
    outer_iterations: int = Field(10, ge=1, description="median filters per warp at most")
    median: Literal[1, 3, 5] = Field(5, description="side of the median filter on the flow, px; 1: none")


class FlowSettings(Config):
    """How the flow of a video is computed and kept in 8 bits; the paper code of MemDPC and CoCLR has TV-L1, one frame apart, +-20 px."""

    method: Literal["dis", "tvl1"] = Field("tvl1", description="dis: OpenCV's, fast; tvl1: ours, for a GPU")
    short_side: int | None = Field(
        256, ge=16, description="of the frames that flow is computed on, and of its pictures, px; null: as decoded"
    )
    gap_frames: int = Field(1, ge=1, description="the flow of frame i is that to frame i + gap_frames")
    bound_px: float = Field(20.0, gt=0, description="u and v from -bound_px to bound_px become levels from 0 to 255; more is clipped")
