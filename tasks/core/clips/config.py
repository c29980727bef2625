"""Settings of everything between a list of videos and a batch on the training device. Imports no torch."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from tasks.core.config import Config
from tasks.core.flow.boxes_config import MotionBoxConfig
from tasks.core.flow.flow_config import FlowSettings


class ClipConfig(Config):
    """Which frames of a video make a clip."""

    exclusive: ClassVar = (("stride_frames", "stride_s"),)

    frames: int = Field(16, ge=1)
    sampling: Literal["dense", "segments", "span"] = Field(
        "dense",
        description="dense: a window of frames a stride apart; segments: TSN, one per equal part; span: for long videos, evenly from a "
        "random start in the first fifth to a random end in the last",
    )
    stride_frames: int | None = Field(None, ge=1, description="distance between frames, in frames")
    stride_s: float | None = Field(None, gt=0, description="distance between frames, in seconds")
    stride_jitter: float = Field(
        0.0, ge=0, le=3, description="with stride_s, j: clips are played at 1 / (1 + j) to 1 + j times their speed in training"
    )
    stretch: bool = Field(
        False, description="with stride_s: a video shorter than a clip is played slower, not continued with its last frame"
    )

    @model_validator(mode="after")
    def _one_stride(self):
        if self.stride_frames is not None and self.stride_s is not None:
            raise ValueError("give stride_frames or stride_s, not both")
        if self.stride_s is None or self.sampling != "dense":
            for name, neutral in (("stride_jitter", "0"), ("stretch", "false")):
                if getattr(self, name):
                    raise ValueError(f"{name} needs dense clips with a stride in seconds: give stride_s, or set {name} to {neutral}")
        return self


class FlowInput(Config):
    """Optical flow of the frames of a clip, as pictures: red is u, green is v, from -bound_px to bound_px (`core.flow.levels`)."""

    exclusive: ClassVar = (("folder", "compute"),)

    folder: str | None = Field(None, description="where `vid data flow` wrote it; a video without flow there is skipped")
    compute: FlowSettings | None = Field(None, description="instead of a folder: computed while videos are read, on the CPU")
    frames: bool = Field(True, description="false: no colours are read, and the flow is the `video` that a network sees")
    channels: Literal[2, 3] = Field(3, description="2: u and v; 3: and one of rest, for networks that take pictures")

    @model_validator(mode="after")
    def _one_source(self):
        if (self.folder is None) == (self.compute is None):
            raise ValueError("give folder (written by vid data flow), or compute (for example {method: dis, short_side: 128})")
        return self


class ClipBoxConfig(MotionBoxConfig):
    """How boxes are found in the frames of a clip while it is read, on the CPU."""

    flow: Literal["tvl1", "dis"] = Field("dis", description="dis: OpenCV's fast flow; tvl1: as the paper, slow without a GPU")


class BoxInput(Config):
    """A box in every frame of a clip, around what moves. `FILE` alone stands for `{file: FILE}`, `compute` for `{}`."""

    file: str | None = Field(
        None,
        description="CSV of boxes, as `vid motion-boxes` writes it: of several boxes in a frame the one around them, of a frame without "
        "one that of the nearest frame; null: computed from the frames of each clip while it is read",
    )
    compute: ClipBoxConfig = Field(
        ClipBoxConfig(), description="how, without a file; a model that needs boxes finds them so in testing, too"
    )
    control: Literal["random", "whole"] | None = Field(
        None, description="random: these boxes at random places; whole: the whole picture, nothing is computed; to compare with"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {} if value == "compute" else {"file": value}
        return value


class DataConfig(Config):
    """Where videos come from and how they are read.

    `train` and `val` take manifests, folders or single videos; `PATH@SPLIT` picks one split of a manifest. Without it a manifest with a
    `split` column gives its `train` rows to `train` and its `val` rows (else `test`) to `val`.
    """

    train: list[str] = Field(default_factory=list)
    val: list[str] = Field(default_factory=list)
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training rows that is used: of every class alike, at least one row")
    fraction_seed: int = Field(0, ge=0, description="of the draw of that share; a smaller one is part of a larger one")
    balance: bool = Field(False, description="training rows of rarer classes occur several times: as many of every class")
    clip: ClipConfig = ClipConfig(stride_frames=4)
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    short_side: int | None = Field(None, ge=8, description="frames leave the worker with this short side, px; null: as decoded")
    repeats: int = Field(1, ge=1, description="clips taken from each decoded video (repeated sampling)")
    preload: bool = Field(False, description="decode everything once into shared memory before training")
    workers: int | None = Field(None, ge=0, description="loader processes; null: from the number of cores")
    flow: FlowInput | None = Field(None, description="optical flow beside the frames, or instead of them; null: frames alone")
    boxes: BoxInput | None = Field(None, description="a box in every frame, for methods that look at it; null: none")

    @model_validator(mode="after")
    def _boxes_are_of_frames(self):
        if self.boxes is not None and self.flow is not None and not self.flow.frames:
            raise ValueError("boxes are around what moves in frames, which are not read here: set data.flow or data.boxes to null")
        return self

    @model_validator(mode="after")
    def _flow_is_not_preloaded(self):
        if self.preload and self.flow is not None and (self.flow.compute is not None or not self.flow.frames):
            raise ValueError("preload keeps frames, not flow: set preload to false, or read the flow from a folder beside the frames")
        return self


def _one_stream(data: DataConfig) -> DataConfig:
    if data.flow is not None and data.flow.frames:
        raise ValueError("this method sees one stream: set data.flow.frames to false, for flow alone, or data.flow to null")
    return data


def _no_flow(data: DataConfig) -> DataConfig:
    if data.flow is not None:
        raise ValueError("this method sees colours: set data.flow to null")
    return data


def _no_boxes(data: DataConfig) -> DataConfig:
    if data.boxes is not None:
        raise ValueError("this method does not look at boxes: set data.boxes to null")
    return data


BoxedStream = Annotated[DataConfig, AfterValidator(_one_stream)]
"""The data of methods that see frames or flow, not both, and may look at boxes."""
OneStream = Annotated[BoxedStream, AfterValidator(_no_boxes)]
"""The data of methods that see frames or flow, not both."""
TwoStreams = Annotated[DataConfig, AfterValidator(_no_boxes)]
"""The data of methods that see frames, flow, or both."""
FramesAlone = Annotated[DataConfig, AfterValidator(_no_flow), AfterValidator(_no_boxes)]
"""The data of methods that cannot be shown flow in this way."""


class AugmentConfig(Config):
    """Batched augmentation on the training device. Every frame of a clip, and its flow where that is read too (`data.flow`), is cropped,
    flipped, turned round and erased alike.
    """

    crop: Literal["resized", "multiscale", "center", "motion", "none"] = Field(
        "multiscale", description="motion: the square around what moves, in testing too, for fixed cameras; none: resize to the square"
    )
    flow: Literal["dis", "tvl1"] | None = Field(
        None,
        description="pictures of the optical flow to the next frame instead of colours, in testing too; "
        "dis: OpenCV's, on the CPU, for small pictures; tvl1: ours, on the device",
    )
    motion_margin: float = Field(
        1.4, gt=0, description="side of the `motion` square over four standard deviations of the motion; varied by a quarter in training"
    )
    scale: tuple[float, float] = Field((0.5, 1.0), description="area range of `resized`")
    ratio: tuple[float, float] = Field((0.75, 1.3333), description="aspect range of `resized`")
    multiscale: tuple[float, ...] = Field((1.0, 0.875, 0.75, 0.66), description="side scales of `multiscale`")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip; 0 where left and right are classes")
    color: float = Field(0.0, ge=0, le=1, description="strength of brightness / contrast / saturation jitter; hue gets a quarter of it")
    color_prob: float = Field(1.0, ge=0, le=1, description="probability of that jitter")
    gray: float = Field(0.0, ge=0, le=1, description="probability of grey scale")
    blur: float = Field(0.0, ge=0, le=1, description="probability of a Gaussian blur, sigma 0.1 to 2 px at 224 px (SimCLR)")
    color_per: Literal["clip", "frame"] = Field(
        "clip", description="frame: jitter, grey and blur are drawn for each frame by itself, so that motion cannot be told from colours"
    )
    color_flow: bool = Field(False, description="jitter, grey and blur of the pictures of `data.flow` too, with the draws of the frames")
    flip_u: bool = Field(True, description="a mirrored clip moves the other way; false: flow is mirrored as a picture, as in public code")
    randaugment: tuple[int, float] | None = Field(None, description="(magnitude 0..10, probability of applying each of 2 operations)")
    mixup: float = Field(0.0, ge=0, description="Beta parameter; 0: off")
    cutmix: float = Field(0.0, ge=0, description="Beta parameter; 0: off")
    mix_prob: float = Field(1.0, ge=0, le=1)
    switch_prob: float = Field(0.5, ge=0, le=1, description="probability of CutMix where both are on")
    erasing: float = Field(0.0, ge=0, le=1, description="probability of random erasing")
    time_reverse: float = Field(0.0, ge=0, le=1, description="probability of playing a clip backwards")
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _directions_keep_their_colours(self):
        if self.flow and (self.color or self.gray or self.randaugment):
            raise ValueError(
                "augment.color, gray and randaugment do not go with augment.flow, whose colours are directions: set them to 0 or null"
            )
        return self
