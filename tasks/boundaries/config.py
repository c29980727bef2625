"""Settings of event boundary detection. Imports no torch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig, FramesAlone
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.core.nn.config import ResNetConfig


class ContrastConfig(Config):
    """MoCo machinery and the four pretext tasks of cVCLR (thesis section 3.3)."""

    segments: int = Field(3, ge=3, le=6, description="K: equal parts of a video, one clip each")
    clip_tasks: bool = Field(True, description="false: frames instead of clips in the segment and order tasks (vanilla VCLR)")
    temperature: float = Field(0.01, gt=0, description="of every InfoNCE loss; VCLR's public code has 0.1")
    queue: int = Field(8192, ge=1, description="negatives kept per queue")
    momentum: float = Field(0.999, ge=0, lt=1, description="of the key encoder")
    dim: int = Field(128, ge=2, description="length of an embedding")
    intra: Literal["softmax", "pairwise"] = Field("softmax", description="softmax: equation 3.2; pairwise: VCLR's public code")
    weights: tuple[float, float, float, float] = Field((1.0, 1.0, 1.0, 1.0), description="of inter, intra, segment, order")
    consistent_augment: bool = Field(True, description="one augmentation for all frames of a clip; false: each frame its own")
    norm: Literal["local", "sync"] = Field(
        "local",
        description="batch norm of each process, keys shuffled between processes as MoCo does (one process: over its batch, nothing to"
        " shuffle); sync: over all processes",
    )


class PretrainConfig(Training):
    """`vid pretrain` of cVCLR."""

    draws = True

    model: ResNetConfig = ResNetConfig()
    contrast: ContrastConfig = ContrastConfig()
    data: FramesAlone = DataConfig(clip=ClipConfig(frames=4, stride_frames=1))
    augment: AugmentConfig = AugmentConfig(crop="resized", scale=(0.2, 1.0), flip=0.5, color=0.4, color_prob=0.8, gray=0.2, blur=0.5)
    optim: OptimConfig = OptimConfig(
        name="sgd",
        base_lr=0.01,
        scale_lr=False,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        warmup_epochs=5,
        warmup_lr=1e-4,
        min_lr=1e-6,
    )
    train: TrainConfig = TrainConfig(epochs=400, batch_size=4)
    visualize: int = Field(2, ge=0, description="clips in the picture of motion confidence at the end of a run (thesis figure 3.3)")

    @model_validator(mode="after")
    def _colours(self):
        if self.augment.flow:
            raise ValueError("augment.flow does not go with boundaries: set it to null")
        return self


class WindowConfig(Config):
    """The frames around a candidate that the classifier sees (thesis section 3.4.1)."""

    exclusive: ClassVar = (("stride_frames", "stride_s"),)

    before: int = Field(5, ge=1, description="W: frames before the candidate, and as many after it; the candidate itself is left out")
    stride_frames: int | None = Field(None, ge=1, description="m: distance between a window's frames, and between candidates, in frames")
    stride_s: float | None = Field(None, gt=0, description="the same in seconds, for videos of different frame rates")
    two_groups: bool = Field(False, description="TSM and MotionSqueeze see the two halves as clips of their own")

    @model_validator(mode="after")
    def _one_stride(self):
        if (self.stride_frames is None) == (self.stride_s is None):
            raise ValueError("give one of stride_frames and stride_s")
        return self


class LabelConfig(Config):
    """Targets of candidates from annotated boundaries."""

    kind: Literal["hard", "soft"] = Field("hard", description="hard: 0 or 1; soft: Gaussians around the boundaries")
    width_s: float = Field(0.3, gt=0, description="hard: positive within half of this of a boundary")
    sigma: float = Field(3.0, gt=0, description="soft: standard deviation in soft_unit")
    soft_unit: Literal["frames", "candidates", "seconds"] = Field("frames", description="unit of sigma; the thesis does not say")


class MergeConfig(Config):
    """From scores of candidates to boundaries (thesis section 3.4.1)."""

    threshold: float = Field(0.5, description="candidates that score at least this are proposals")
    rule: Literal["window", "runs"] = Field("window", description="window: proposals within window_s of the group's first become one")
    window_s: float = Field(1.0, gt=0)
    pick: Literal["mean", "center", "argmax"] = Field("mean", description="time of a group: score-weighted mean, middle one, best one")


class FinetuneConfig(Training):
    """`vid finetune` for event boundaries."""

    model: ResNetConfig | None = Field(None, description="architecture from scratch; null: that of --from")
    window: WindowConfig = WindowConfig(stride_frames=3)
    label: LabelConfig = LabelConfig()
    merge: MergeConfig = MergeConfig()
    balanced: bool = Field(True, description="as many boundary as background windows in every batch")
    visits: int = Field(1, ge=1, description="times that an epoch comes to every video, each time for data.repeats windows")
    protocol: Literal["gebd", "tapos"] = Field("gebd", description="how validation counts; tapos: only videos with a boundary inside")
    min_consistency: float = Field(0.3, ge=0, le=1, description="validation drops videos whose annotators agree less than this")
    patience: int | None = Field(None, ge=1, description="stop after this many evaluations without a better average F1; null: never")
    data: FramesAlone = DataConfig(clip=ClipConfig(frames=10), repeats=4)
    augment: AugmentConfig = AugmentConfig(crop="none")
    optim: OptimConfig = OptimConfig(name="sgd", base_lr=7.5e-4, scale_lr=False, momentum=0.9, weight_decay=1e-4)
    train: TrainConfig = TrainConfig(epochs=8, batch_size=8, eval_every_epochs=1)

    @model_validator(mode="after")
    def _halves(self):
        if self.balanced and self.data.repeats % 2:
            raise ValueError(f"data.repeats ({self.data.repeats}) must be even: half of a video's windows are boundaries")
        return self

    @model_validator(mode="after")
    def _windows_as_they_are(self):
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("augment.mixup and augment.cutmix do not go with boundaries: set both to 0")
        if self.augment.crop == "motion":
            raise ValueError("augment.crop motion does not go with boundaries: it would differ from window to window")
        if self.augment.flow:
            raise ValueError("augment.flow does not go with boundaries: set it to null")
        if self.data.fraction < 1 or self.data.balance:
            raise ValueError("data.fraction and data.balance go by classes, which boundaries have not: set them to 1 and false")
        return self


class DetectConfig(Config):
    """`vid detect-boundaries`."""

    model: str | None = Field(None, description="model folder, run folder or hf:// id; null: the training-free detector")
    threshold: float | None = Field(None, ge=0, le=1, description="null: 0.5, or what the model was published with")
    min_gap_s: float | None = Field(
        None, ge=0, description="training-free: of two boundaries nearer than this the stronger stays; null: 0.5"
    )
    only: list[Literal["cuts", "dissolves", "events"]] | None = Field(
        None, description="training-free: the kinds of boundaries that are told; null: all"
    )
    merge: MergeConfig | None = Field(None, description="with a model: from scores to boundaries; null: as it was published")
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    batch_size: int = Field(16, ge=1, description="with a model: windows scored at a time")
    device: str = Field("auto", description="with a model: auto, cpu, cuda, cuda:1, mps")


CONFIGS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "detect": DetectConfig}
