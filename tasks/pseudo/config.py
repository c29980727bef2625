"""Settings of pseudo-anomalies and of the inpainting model that makes them. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig, FramesAlone
from tasks.core.config import Config
from tasks.core.engine.config import Training
from tasks.core.flow.flow_config import TVL1Config

LATENT_CHANNELS = 3
"""Of the VQ autoencoder: the UNet sees 3 noised + 3 masked + 1 mask = 7 channels."""

Level = Annotated[int, Field(ge=8)]


class MaskConfig(Config):
    """Where a frame is changed."""

    kind: Literal["random", "segmentation", "motion", "boxes"] = Field(
        "segmentation", description="a frame in which no object, motion or box is found gets a random mask"
    )
    file: str | None = Field(None, description="boxes: CSV of video, frame, x1_px, y1_px, x2_px, y2_px and, if there is one, score")
    weights: str | None = Field(
        None, description="segmentation: a file of COCO weights of torchvision's Mask R-CNN; null: torch hub's cache"
    )
    min_score: float = Field(0.5, ge=0, le=1, description="segmentation and boxes: least confidence")
    max_area: float = Field(0.3, gt=0, le=1, description="objects that cover more of the frame are passed over (LaMa)")
    hold_frames: int = Field(1, ge=1, description="frames that share one random mask, or follow one object; 1: each frame draws anew")

    @model_validator(mode="after")
    def _file(self):
        if (self.kind == "boxes") != (self.file is not None):
            raise ValueError("masks of kind boxes need a file, and only they: --masks boxes:FILE")
        return self


class TemporalConfig(Config):
    """Flow mixup: the patch of flow under a mask is mixed with a patch from elsewhere."""

    kind: Literal["flow-mixup", "none"] = "flow-mixup"
    alpha: float = Field(0.4, gt=0, description="of Beta(alpha, alpha), from which the mixing weight is drawn")
    segment_frames: int = Field(16, ge=1, description="frames that share one weight and one place to mix from: the length of a clip")
    per_frame: bool = Field(False, description="draw weight and place for every frame instead")
    flow: TVL1Config = TVL1Config()


class GenerateConfig(Config):
    """`vid gen-pseudo`."""

    spatial: Literal["ldm", "telea", "patch", "none"] = Field(
        "ldm", description="ldm: diffusion, needs a model; telea: OpenCV's inpainting; patch: a piece of another place"
    )
    model: str | None = Field(
        None, description="inpainting model: a model or run folder, any diffusers inpainting pipeline, or hf://org/repo"
    )
    steps: int = Field(50, ge=1, description="denoising steps")
    size: int | None = Field(
        None, ge=8, description="the model sees frames brought to a square of this side, px; null: as the model was trained"
    )
    prompt: str = Field("", description="for pipelines that take a text")
    masks: MaskConfig = MaskConfig()
    temporal: TemporalConfig = TemporalConfig()
    short_side: int | None = Field(None, ge=8, description="short side of the frames that are written, px; null: as the video")
    seed: int = Field(0, ge=0)
    batch_size: int = Field(8, ge=1, description="frames inpainted or segmented at a time")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="of the inpainting model; auto: bf16 on CUDA, else fp32")
    device: str = Field("auto", description="auto: the GPU if there is one")
    decoder: Literal["auto", "pyav", "decord"] = "auto"

    @model_validator(mode="after")
    def _model(self):
        if self.model is not None and self.spatial != "ldm":
            raise ValueError(f"a model is used with spatial: ldm only, not with {self.spatial}")
        return self


def _divisible(config: "AutoencoderConfig | UnetConfig"):
    bad = [c for c in config.channels if c % config.groups]
    if bad:
        raise ValueError(f"channels {bad[0]} are not a multiple of groups {config.groups}")
    return config


class AutoencoderConfig(Config):
    """The VQ autoencoder: its latent has 3 channels and a side 2 ** (levels - 1) times smaller than the picture's."""

    channels: tuple[Level, ...] = Field((64, 128, 256), min_length=1, description="per level, the full resolution first; 3 levels: f = 4")
    layers: int = Field(2, ge=1, description="residual blocks per level")
    codes: int = Field(4096, ge=2, description="entries of the codebook")
    attention: bool = Field(True, description="self-attention at the lowest level")
    groups: int = Field(32, ge=1, description="of the group norms")
    codebook_weight: float = Field(1.0, ge=0, description="of the loss that draws codes to latents and latents to codes")

    @model_validator(mode="after")
    def _groups(self):
        return _divisible(self)


class UnetConfig(Config):
    """The UNet over 7 channels."""

    channels: tuple[Level, ...] = Field((128, 256, 384), min_length=1)
    layers: int = Field(2, ge=1, description="residual blocks per level")
    attention: int = Field(2, ge=0, description="levels with self-attention, counted from the lowest")
    head_dim: int = Field(32, ge=1)
    groups: int = Field(32, ge=1)

    @model_validator(mode="after")
    def _groups(self):
        return _divisible(self)


class DiffusionConfig(Config):
    """The forward process; defaults: CompVis' inpainting model."""

    steps: int = Field(1000, ge=2)
    beta_start: float = Field(0.0015, gt=0, lt=1)
    beta_end: float = Field(0.0205, gt=0, lt=1)
    prediction: Literal["epsilon", "v_prediction"] = Field("epsilon", description="what the UNet predicts")


class LatentConfig(Config):
    """The 7-channel latent inpainting model."""

    image_size: int = Field(256, ge=16, description="side of the squares it is trained on, px")
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    unet: UnetConfig = UnetConfig()
    diffusion: DiffusionConfig = DiffusionConfig()

    def multiple(self) -> int:
        """Sides of pictures must be multiples of this, px."""
        return 2 ** (len(self.autoencoder.channels) - 1 + len(self.unet.channels) - 1)

    @model_validator(mode="after")
    def _size(self):
        if self.image_size % self.multiple():
            raise ValueError(f"image_size must be a multiple of {self.multiple()} with these levels")
        return self


class PretrainConfig(Training):
    """`vid pretrain` of an inpainting model on normal video: first its autoencoder, then its UNet, in one run."""

    draws = True

    model: LatentConfig = LatentConfig()
    autoencoder_share: float = Field(0.4, gt=0, lt=1, description="share of the steps that train the autoencoder; the UNet has the rest")
    revive_every: int = Field(50, ge=1, description="steps after which codes that were not used take the place of a latent that was met")
    data: FramesAlone = DataConfig(clip=ClipConfig(frames=1))
    augment: AugmentConfig = AugmentConfig(crop="none", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    visualize: int = Field(6, ge=0, description="frames in the picture at the end of a run")

    @model_validator(mode="after")
    def _range(self):
        if self.augment.mean != (0.5,) * 3 or self.augment.std != (0.5,) * 3:
            raise ValueError("the inpainting model takes pictures in [-1, 1]: augment.mean and augment.std must be .5")
        if self.data.clip.frames != 1:
            raise ValueError("the inpainting model takes single frames: data.clip.frames must be 1")
        if self.augment.flow:
            raise ValueError("the inpainting model takes frames as they are: augment.flow must be null")
        return self


CONFIGS = {"pretrain": PretrainConfig, "generate": GenerateConfig}
