"""Settings of anomaly detection: training the learned indicators, and detection. Imports no torch."""

import math
from typing import Literal

from pydantic import Field, model_validator

from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig, FramesAlone
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.core.flow.flow_config import TVL1Config

PARTS = ("appearance", "motion", "semantic")


class AutoencoderConfig(Config):
    """The 3-D convolutional autoencoder of frames (A^s) and of flow (A^t): thesis table 4.2 with the layer it omits."""

    image_size: int = Field(256, ge=16, multiple_of=16, description="side of the square input, px")
    frames: int = Field(16, ge=8, multiple_of=8, description="consecutive frames of a clip")
    width: float = Field(1.0, gt=0, description="factor on the channels 96, 128, 256, 256")
    norm: Literal["local", "sync"] = Field("local", description="batch norm over the clips of one process, or of all processes")


class FlowConfig(Config):
    """Optical flow as the motion autoencoder sees it."""

    short_side: int | None = Field(None, ge=16, description="flow is found, and counted in px, at this short side; null: as decoded")
    encoding: Literal["uv0", "uvmag", "hsv"] = "uv0"
    clip_px: float = Field(20.0, gt=0, description="longer vectors are cut to this length per axis")
    tvl1: TVL1Config = TVL1Config()


class SemanticConfig(Config):
    """The discriminator of normal and pseudo-anomalous frames, over features of a frozen image encoder (thesis table 4.1)."""

    encoder: str | None = Field(
        None,
        description="CLIP image tower (transformers folder, hf://org/repo) or a model folder of this suite; null: this part is left out",
    )
    hidden: int = Field(128, ge=1)
    normalize: bool = Field(False, description="features to length 1")
    lr: float = Field(0.02, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-3, ge=0)
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(16, ge=1, description="frames per process")


class AutoencoderOptim(OptimConfig):
    """Optimizer of the two autoencoders: Adam without decay at a constant learning rate (the public code of LNTRA, Astrid et al. 2021)."""

    name: Literal["adamw", "adam", "sgd"] = "adam"
    base_lr: float = Field(1e-4, gt=0)
    scale_lr: bool = False
    schedule: Literal["cosine", "constant", "steps"] = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.0, ge=0)


def whole_frames() -> AugmentConfig:
    """The whole picture squeezed to the square, levels / 127.5 - 1."""
    return AugmentConfig(crop="none", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class PretrainConfig(Training):
    """`vid pretrain` of a one-class anomaly detector: its parts are trained one after the other in one run."""

    parts: tuple[Literal["appearance", "motion", "semantic"], ...] = Field(
        PARTS, min_length=1, description="semantic needs `semantic.encoder` and a `pseudo` folder with frames, and is left out without"
    )
    pseudo: str | None = Field(None, description="folder of `vid gen-pseudo` made from the training videos; null: no pseudo-anomalies")
    p_s: float = Field(0.4, ge=0, le=1, description="probability that a clip of frames goes in as its pseudo-anomaly")
    p_t: float = Field(0.5, ge=0, le=1, description="the same for a clip of flow")
    model: AutoencoderConfig = AutoencoderConfig()
    flow: FlowConfig = FlowConfig()
    semantic: SemanticConfig = SemanticConfig()
    weights: tuple[float, float, float] = Field((0.65, 0.25, 0.10), description="eta1, eta2, eta3 of the fusion, kept in the model")
    data: FramesAlone = DataConfig(clip=ClipConfig(frames=16, stride_frames=1))
    augment: AugmentConfig = Field(whole_frames(), description="clips go in whole, as their pseudo-anomalies do: leave it as it is")
    optim: AutoencoderOptim = AutoencoderOptim()
    train: TrainConfig = TrainConfig(epochs=25, batch_size=24)

    @model_validator(mode="after")
    def _clips(self):
        clip = self.data.clip
        if (clip.frames, clip.stride_frames, clip.stride_s, clip.sampling) != (self.model.frames, 1, None, "dense"):
            raise ValueError("data.clip: training takes every run of model.frames consecutive frames; leave the stride at 1 frame")
        return self

    @model_validator(mode="after")
    def _augment(self):
        if self.augment != whole_frames():
            raise ValueError("augment: a clip and its pseudo-anomaly must look alike; leave it out")
        return self

    @model_validator(mode="after")
    def _weights(self):
        check_weights(self.weights)
        return self


class DetectConfig(Config):
    """`vid detect-anomalies`."""

    model: str | None = Field(None, description="model folder, run folder or hf:// id; null: the training-free detector")
    normal: list[str] = Field(
        default_factory=list, description="training-free: videos, folders or manifests of normal footage to learn from"
    )
    first_part: float = Field(
        0.25, gt=0, lt=1, description="training-free, without `normal`: share of each video, from its beginning, that counts as normal"
    )
    threshold: float | None = Field(None, description="frames that score at least this are anomalous; null: the detector's own")
    weights: tuple[float, float, float] | None = Field(
        None, description="eta1, eta2, eta3 of appearance, motion and semantic; null: the model's"
    )
    fusion: Literal["paper", "standard"] = Field(
        "paper", description="paper: equation 4.6; standard: standard deviations above the normal footage that the model was calibrated on"
    )
    omega2_norm: Literal["none", "per_video_minmax", "global_minmax"] = Field(
        "per_video_minmax", description="of the motion score in equation 4.6; global: over the footage that the model was calibrated on"
    )
    edges: Literal["pad", "drop"] = Field(
        "pad", description="a model's first 8 and last 7 frames: windows filled by repeating the first or last frame, or no score"
    )
    smoothing_s: float = Field(0.0, ge=0, description="standard deviation of a Gaussian over the fused score, seconds; 0: none")
    min_duration_s: float = Field(0.0, ge=0, description="shorter intervals are dropped")
    join_gap_s: float = Field(0.0, ge=0, description="intervals no further apart than this become one")
    window_stride: int = Field(
        1, ge=1, le=16, description="with a model: from one scored frame to the next; those between take the nearest score"
    )
    batch_size: int = Field(8, ge=1, description="windows scored at a time")
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    fail_above: float | None = Field(None, description="exit with 10 when a frame scores more than this")

    @model_validator(mode="after")
    def _weights(self):
        if self.weights is not None:
            check_weights(self.weights)
        return self


def check_weights(weights: tuple[float, float, float]) -> None:
    """ValueError unless fusion weights are in [0, 1] and sum to 1."""
    if min(weights) < 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise ValueError(f"the weights {weights} must be at least 0 and sum to 1")


CONFIGS = {"pretrain": PretrainConfig, "detect": DetectConfig}
