"""Settings of dense predictive coding. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig, OneStream
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.core.nn.config import R2D3DConfig


class PredictionConfig(Config):
    """What DPC and MemDPC share."""

    negatives: Literal["local", "all"] = Field(
        "local", description="local: candidates are the clips of one process, as published; all: those of all processes"
    )
    norm: Literal["local", "sync"] = Field("local", description="batch norm of each process, as published; sync: over all processes")


class DPCConfig(PredictionConfig):
    """Dense predictive coding (Han et al., ICCV workshops 2019): the next map is a function of the context."""

    name: Literal["dpc"] = "dpc"


class MemDPCConfig(PredictionConfig):
    """DPC with a memory (Han et al., ECCV 2020): the next map is a convex combination of learned vectors at every place."""

    name: Literal["memdpc"] = "memdpc"
    slots: int = Field(1024, ge=1, description="k: vectors in the memory")
    combine: Literal["average", "sum"] = Field(
        "average", description="of the losses of two directions: average, the thesis; sum, the public code"
    )


AnyPrediction = Annotated[DPCConfig | MemDPCConfig, Field(discriminator="name")]


class PretrainConfig(Training):
    """`vid pretrain` of DPC and MemDPC."""

    draws = True

    model: R2D3DConfig = R2D3DConfig(statistics="batch")
    method: AnyPrediction = DPCConfig()
    short: Literal["drop", "pad"] = Field(
        "drop", description="videos that are shorter than a clip: skipped and counted, as in the public code; pad: their last frame repeats"
    )
    data: OneStream = DataConfig(clip=ClipConfig(frames=40, stride_s=0.1))
    augment: AugmentConfig = AugmentConfig(crop="resized", scale=(0.5, 1.0), flip=0.5, color=0.5, gray=0.5, color_per="frame")
    optim: OptimConfig = OptimConfig(name="adam", base_lr=1e-3, scale_lr=False, schedule="constant", betas=(0.9, 0.999), weight_decay=1e-5)
    train: TrainConfig = TrainConfig(epochs=300, batch_size=64)
    visualize: int = Field(0, ge=0, description="memdpc: clips of which the picture of the memory's use is made; 0: no picture")

    @model_validator(mode="after")
    def _blocks(self):
        frames, length = self.data.clip.frames, self.model.block_frames
        if frames % length:
            raise ValueError(f"data.clip.frames ({frames}) must be a multiple of model.block_frames ({length})")
        if frames // length <= self.model.predict:
            raise ValueError(
                f"a clip of {frames // length} blocks leaves nothing to predict model.predict ({self.model.predict}) blocks from"
            )
        return self

    @model_validator(mode="after")
    def _clips(self):
        if self.data.clip.sampling != "dense":
            raise ValueError("data.clip.sampling must be dense: blocks follow each other at a constant stride")
        if self.augment.time_reverse:
            raise ValueError("augment.time_reverse would swap past and future: set it to 0")
        if self.visualize and self.method.name != "memdpc":
            raise ValueError("visualize draws the use of a memory, which dpc has not: set it to 0")
        return self

    def n_blocks(self) -> int:
        """N: blocks of a clip."""
        return self.data.clip.frames // self.model.block_frames


CONFIGS = {"pretrain": PretrainConfig}
