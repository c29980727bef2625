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
