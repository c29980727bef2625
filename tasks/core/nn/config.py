"""Architecture settings. Imports no torch."""

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.core.errors import UsageError

SIZES = {  # name: (width, depth, heads)
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}

MAX_TOKENS = 2**17
"""Of one clip: its position codes are a table."""


def n_visible(n_tokens: int, mask_ratio: float) -> int:
    """Visible tokens at a mask ratio: floor(N (1 - rho)), at least 1. 1568 tokens: 235 / 156 / 78 at .85 / .90 / .95."""
    return max(1, math.floor(n_tokens * (1 - mask_ratio) + 1e-9))


class VitConfig(Config):
    """Architecture of a video transformer; `dim`, `depth` and `heads` override those of `size`."""

    family: Literal["vit"] = "vit"
    size: Literal["tiny", "small", "base", "large", "huge"] = "base"
    dim: int | None = Field(None, ge=8)
    depth: int | None = Field(None, ge=1, le=1000)
    heads: int | None = Field(None, ge=1)
    image_size: int = Field(224, ge=8, description="side of the square input, px")
    frames: int = Field(16, ge=1)
    tubelet: int = Field(2, ge=1, description="frames per token")
    patch: int = Field(16, ge=2, description="side of a token, px")
    input: Literal["rgb", "motion"] = Field("rgb", description="motion: the clip minus its mean frame, for a fixed camera and few labels")
    pos: Literal["sincos1d", "sincos3d", "sincos1d-double"] = Field(
        "sincos1d",
        description="fixed positions: over the token number, or time x row x column; double: as published weights were trained with",
    )
    pos_scale: float = Field(1.0, gt=0, description="factor on the position codes")
    norm_eps: float = Field(1e-6, gt=0, description="epsilon of the layer norms of the blocks and behind them")
    final_norm: bool = Field(True, description="a layer norm behind the blocks; some published pretrained weights have none")
    start: Literal["xavier", "local"] = Field(
        "xavier", description="initial weights; local: attention that starts near each token's own position, for short runs of small models"
    )
    class_token: bool = Field(False, description="a learned token before the others, which no clip is without")
    pos_frames: int | None = Field(
        None, ge=1, description="frames of a clip whose position codes are stretched over time to this one's; null: codes of this clip"
    )

    @model_validator(mode="after")
    def _divisible(self):
        for name in ("frames", "pos_frames"):
            if (getattr(self, name) or 0) % self.tubelet:
                raise ValueError(f"{name} ({getattr(self, name)}) must be a multiple of tubelet ({self.tubelet})")
        if self.image_size % self.patch:
            raise ValueError(f"image_size ({self.image_size}) must be a multiple of patch ({self.patch})")
        if self.n_tokens() > MAX_TOKENS:
            raise ValueError(f"a clip of {self.n_tokens()} tokens is too long: at most {MAX_TOKENS}")
        dim, _, heads = self.widths()
        if dim % heads or dim % 2:
            raise ValueError(f"width ({dim}) must be even and a multiple of heads ({heads})")
        return self

    def widths(self) -> tuple[int, int, int]:
        """(width, depth, heads) after overrides."""
        dim, depth, heads = SIZES[self.size]
        return self.dim or dim, self.depth or depth, self.heads or heads

    def grid(self) -> tuple[int, int, int]:
        """Tokens along (time, rows, columns)."""
        return self.frames // self.tubelet, self.image_size // self.patch, self.image_size // self.patch

    def n_tokens(self) -> int:
        """Tokens of one clip."""
        return math.prod(self.grid())


class MotionConfig(Config):
    """The MotionSqueeze layer (Kwon et al., ECCV 2020; thesis section 3.3)."""

    patch: int = Field(15, ge=3, description="side of the square of displacements that are compared, cells; odd")
    sigma: float = Field(5.0, gt=0, description="width of the Gaussian around the best match, cells")
    temperature: float = Field(0.01, gt=0, description="of the soft argmax; the public code's tau is its inverse")

    @model_validator(mode="after")
    def _odd(self):
        if self.patch % 2 == 0:
            raise ValueError(f"patch ({self.patch}) must be odd: as far to the left as to the right")
        return self


class ResNetConfig(Config):
    """A ResNet made temporal by TSM in every block and a MotionSqueeze layer after conv3_x (thesis table 3.1)."""

    frames: ClassVar[None] = None
    """It takes clips of any length."""

    family: Literal["resnet"] = "resnet"
    size: Literal["resnet50", "resnet18"] = Field("resnet50", description="resnet50: bottlenecks [3, 4, 6, 3]; resnet18: basic blocks")
    width: int = Field(64, ge=8, description="channels of the first convolution; 64 is the standard network")
    image_size: int = Field(224, ge=32, description="side of the square input, px")
    shift_div: int = Field(8, ge=2, description="TSM moves 1/shift_div of the channels from the past and as many from the future")
    shift: bool = Field(True, description="TSM; false: no shift anywhere")
    motion: MotionConfig | None = Field(MotionConfig(), description="null: without the MotionSqueeze layer")


class R2D3DConfig(Config):
    """A 2D3D-ResNet with a ConvGRU over the blocks of a clip (DPC, MemDPC)."""

    frames: ClassVar[None] = None
    """It takes any number of blocks."""

    family: Literal["r2d3d"] = "r2d3d"
    size: Literal["resnet18", "resnet34"] = Field("resnet18", description="blocks per stage: [2, 2, 2, 2] or [3, 4, 6, 3]")
    width: int = Field(64, ge=2, description="channels of the first convolution; 64 is the standard network, whose maps have 256")
    image_size: int = Field(128, ge=32, description="side of the square input, px")
    block_frames: int = Field(5, ge=1, description="L: frames of a block; a clip has data.clip.frames / L blocks")
    predict: int = Field(3, ge=1, description="q: blocks at the end of a clip that pretraining predicts from those before")
    bidirectional: bool = Field(False, description="a second aggregator that takes the blocks backwards (MemDPC)")
    statistics: Literal["running", "batch"] = Field(
        "running", description="of batch norm in evaluation mode; batch: those of the blocks at hand, as DPC is pretrained"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="of the aggregators' state, at every step")

    def finetuned(self) -> "R2D3DConfig":
        """What a classifier that trains the whole network makes of it: norms have running statistics (DPC's public code)."""
        return self.model_copy(update={"statistics": "running"})

    def check_clip(self, frames: int) -> None:
        """UsageError where clips of so many frames are not what the network takes."""
        if frames % self.block_frames:
            raise UsageError(
                f"clips of {frames} frames cannot be cut into blocks of {self.block_frames}", "set data.clip.frames to a multiple"
            )


class DiscrepancyConfig(R2D3DConfig):
    """A pretrained network of DPC or MemDPC that compares what it predicts with what comes."""

    family: Literal["discrepancy"] = "discrepancy"
    slots: int | None = Field(None, ge=1, description="k: vectors in the memory; null: none (DPC)")

    def check_clip(self, frames: int) -> None:
        super().check_clip(frames)
        if frames // self.block_frames <= self.predict:
            raise UsageError(
                f"clips of {frames} frames are {frames // self.block_frames} blocks of {self.block_frames}: of them {self.predict} are "
                "predicted, and none is left to predict them from",
                f"set data.clip.frames to {(self.predict + 1) * self.block_frames} or more",
            )


class TargetConfig(Config):
    """What is reconstructed at masked tokens."""

    kind: Literal["pixels", "motion"] = Field("pixels", description="motion: pixels minus the mean frame of the clip")
    normalize: bool = Field(
        True, description="pixels: per token and colour to mean 0, variance 1; motion: by one standard deviation per clip"
    )
    loss: Literal["mse", "l1"] = "mse"


class DecoderConfig(Config):
    """The light decoder of masked reconstruction; unset widths follow the encoder (half its width, heads of 64)."""

    dim: int | None = Field(None, ge=8)
    depth: int = Field(4, ge=1, le=1000)
    heads: int | None = Field(None, ge=1)
    norm_eps: float = Field(1e-6, gt=0, description="epsilon of the last layer norm; transformers has 1e-5")


class TokenDropoutConfig(Config):
    """Token dropout with partial reconstruction (Han et al., "Turbo training with token dropout", BMVC 2022)."""

    mask: float = Field(0.5, ge=0, lt=1, description="m: share of the tokens that the encoder does not see; 0: no dropout, no decoder")
    reconstruct: float | None = Field(
        None, ge=0, lt=1, description="r <= m: share that is reconstructed; 0: none, no decoder; null: as many as are seen, at most m"
    )
    pattern: Literal["random", "tube"] = Field("random", description="tube: the same places in every frame")
    weight: float | None = Field(None, gt=0, description="of the task's loss beside the reconstruction; null: 1 / ln(classes)")
    decoder_cls: bool = Field(True, description="the decoder sees the encoder's class token, where there is one")
    decoder: DecoderConfig = DecoderConfig()
    target: TargetConfig = TargetConfig()

    @model_validator(mode="after")
    def _no_more_than_is_hidden(self):
        if self.reconstruct is not None and self.reconstruct > self.mask:
            raise ValueError(f"reconstruct ({self.reconstruct:g}) must be at most mask ({self.mask:g}), the share that is hidden")
        return self

    def reconstruct_used(self) -> float:
        """`reconstruct`, or what null means."""
        return min(self.mask, 1 - self.mask) if self.reconstruct is None else self.reconstruct


class S3DConfig(Config):
    """S3D without gating (Xie et al., ECCV 2018): Inception with separable 3-D convolutions, as CoCLR uses it."""

    frames: ClassVar[None] = None
    """It takes clips of any length."""

    family: Literal["s3d"] = "s3d"
    width: float = Field(1.0, gt=0, le=4, description="factor on all channels; 1 is the published network")
    image_size: int = Field(128, ge=32, description="side of the square input, px")
    projection: int | None = Field(None, ge=2, description="length of what a projection head gives beside the features; null: no head")
