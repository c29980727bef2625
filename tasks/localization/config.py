"""Settings of temporal localisation. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.config import Config
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.localization.detect_config import DetectConfig
from tasks.localization.tower_config import TowersConfig
from tasks.localization.variation_config import VariationConfig

FAR = 10000.0
"""End of the last range of regression: no event is longer."""
STREAMS = ("visual", "audio")
"""The streams of features that a localiser knows, by their names in `data.streams`."""


class AlignmentConfig(Config):
    """Attention within and between the modalities before the pyramid (DEL, AAT)."""

    enabled: bool = True
    mask: Literal["learned", "time", "band", "off"] = Field(
        "learned",
        description="which tokens of the two modalities see each other: those that a learned mask takes for parts of one event; only those"
        " of the same time; of nearly the same time; all",
    )
    band: int = Field(4, ge=0, description="mask: band: distance in tokens")
    layers: int = Field(2, ge=1)
    heads: int = Field(8, ge=1)
    pair_width: int = Field(64, ge=1, description="channels of the projections whose products are the learned mask")
    reach: int = Field(64, ge=1, description="distances above it are one to the learned mask, tokens")
    supervision: float = Field(0.1, ge=0, description="weight of the learned mask's loss: do two tokens lie in one event?")


class ContrastConfig(Config):
    """Contrast of the modalities over videos and inside of them (DEL, SCL), and the token scores that choose its negatives."""

    enabled: bool = True
    inter: float = Field(0.001, ge=0, description="weight: video against sound over the batch")
    intra: float = Field(1.0, ge=0, description="weight: an event's picture against its sound, background tokens as negatives")
    score: float = Field(0.001, ge=0, description="weight: is a token inside of an event?")
    token_class: float = Field(0.001, ge=0, description="weight: of which events?")
    negatives: Literal["score", "random"] = Field(
        "score", description="score: background that is most like an event of the class to the model; random: any background, as a control"
    )
    dilation: int = Field(4, ge=0, description="tokens around events that are no background")
    share: int = Field(8, ge=1, description="one of so many tokens of a video is a negative at most")


class NeckConfig(Config):
    """Path aggregation over the levels, each modality guided by the other (DEL, PAN)."""

    enabled: bool = True
    bottom_up: bool = Field(True, description="false: top-down only")
    blocks: int = Field(3, ge=1, description="transformer blocks in each step")


class HeadConfig(Config):
    """The heads that all levels share."""

    width: int = Field(512, ge=1)
    layers: int = Field(3, ge=1, description="convolutions of a head, with the last")
    class_aware: bool = Field(True, description="every class has its own start and end at a point; false: all share one")
    prior: float = Field(0.01, gt=0, lt=1, description="first probability of every class")


class LocalizerConfig(Config):
    """A single-stage, anchor-free localiser over a pyramid in time. DEL by default; ActionFormer and UnAV by settings alone."""

    input: Literal["both", "visual", "audio", "concat"] = Field(
        "both", description="both modalities, one of them, or both as one stream; without both there is no alignment and no contrast"
    )
    width: int = Field(512, ge=2, description="channels of a modality")
    standardize: bool = Field(False, description="features are brought to mean 0 and deviation 1 over the training set, channel by channel")
    columns: int = Field(1, ge=1, description="visual features are of so many pictures side by side, which are seen by the same weights")
    heads: int = Field(4, ge=1, description="of every attention but the alignment's")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="columns: share of the features that is left out in training")
    embed: int = Field(2, ge=1, description="convolutions before the transformer blocks")
    stem: int = Field(2, ge=0, description="transformer blocks at full length")
    branch: Literal["conv", "attention", "cross"] = Field(
        "conv",
        description="how a level becomes the next: a convolution (DEL), a transformer block (ActionFormer), a block whose queries come from"
        " the other modality (UnAV)",
    )
    window: tuple[int | None, ...] = Field((), description="positions that attention sees, for each level; (): all; one number: for all")
    positions: int | None = Field(None, ge=1, description="length of a table of sine-cosine positions, stretched to longer videos")
    drop_path: float = Field(0.1, ge=0, lt=1)
    residual: bool = Field(
        False,
        description="alignment and neck are added to what goes into them, by factors learned from 0 on (ReZero); false: they replace it",
    )
    layer_scale: float | None = Field(1e-4, gt=0, description="first factor of every branch of a transformer block; null: no factors")
    public_padding: int | None = Field(
        None,
        ge=1,
        description="pad as the public code of the baselines: to so many features, biases of norms reach from the padding into the last"
        " valid ones; null: padding reaches nothing",
    )
    level_norm: bool = Field(False, description="a norm on every level of the pyramid (ActionFormer)")
    dependency: bool = Field(False, description="dependencies between the events of a video, by class (UnAV)")
    ranges: tuple[tuple[float, float], ...] = Field(
        ((0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, FAR)),
        description="of each level: the larger of the distances to start and end of an event that its points take, features",
    )
    alignment: AlignmentConfig = AlignmentConfig()
    contrast: ContrastConfig = ContrastConfig()
    neck: NeckConfig = NeckConfig()
    head: HeadConfig = HeadConfig()

    @field_validator("window")
    @classmethod
    def _odd(cls, window: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if any(size is not None and (size < 3 or size % 2 == 0) for size in window):
            raise ValueError("windows of attention are odd numbers from 3, or null: all positions")
        return window

    @model_validator(mode="after")
    def _fits(self):
        for what, width, heads in (("heads", self.width, self.heads), ("alignment.heads", self.width, self.alignment.heads)):
            if width % heads:
                raise ValueError(f"width {width} does not divide by {what} {heads}")
        if self.neck.enabled and self.width // 2 % self.heads:
            raise ValueError(f"half of width {self.width}, in the neck, does not divide by heads {self.heads}")
        if len(self.window) not in (0, 1, self.levels):
            raise ValueError(f"window has {len(self.window)} numbers for {self.levels} levels")
        if self.branch == "cross" and self.input != "both":
            raise ValueError("branch: cross needs both modalities: set input to both, or branch to attention")
        if any(low >= high for low, high in self.ranges):
            raise ValueError("a range of regression goes from a smaller to a larger number")
        return self

    @property
    def levels(self) -> int:
        """Levels of the pyramid; level l has every 2 ** l-th position."""
        return len(self.ranges)

    @property
    def needed(self) -> tuple[str, ...]:
        """The streams that the model takes."""
        return STREAMS if self.input in ("both", "concat") else (self.input,)

    @property
    def aligned(self) -> bool:
        """Whether there is an alignment: it needs two modalities."""
        return self.alignment.enabled and self.input == "both"

    @property
    def contrasted(self) -> bool:
        """Whether there is a contrast: it needs two modalities."""
        return self.contrast.enabled and self.input == "both"

    @property
    def clean_padding(self) -> bool:
        """Whether padding is zeroed wherever a convolution might reach it."""
        return self.public_padding is None

    def padded(self, length: int) -> int:
        """The length to which features of this length are padded: the coarsest level divides it, as the public code's windows do."""
        step = 2 ** (self.levels - 1)
        if self.public_padding is not None:
            spans = [(self.window_of(level) or 0) // 2 * 2 * 2**level for level in range(self.levels)]
            length, step = max(length, self.public_padding), max(step, *spans)
        return -(-length // step) * step

    def window_of(self, level: int) -> int | None:
        """Positions that attention sees at a level; None: all."""
        return None if not self.window else self.window[0 if len(self.window) == 1 else level]


class LossConfig(Config):
    """Losses of the heads."""

    regression: float = Field(1.0, ge=0, description="weight of the loss of starts and ends")
    first_positives: float = Field(
        250.0, gt=0, description="first value of the moving average of positive points, which losses are divided by"
    )
    smoothing: float = Field(0.0, ge=0, lt=1, description="of class labels")
    center_radius: float | None = Field(
        None, gt=0, description="points are positive so many strides around an event's middle; null: all of it"
    )


class CropConfig(Config):
    """Crops of the features of a video in training. Longer videos than data.max_length are cut to it."""

    ratio: tuple[float, float] | None = Field((0.9, 1.0), description="share of a shorter video that is kept, drawn between; null: all")
    min_inside: float = Field(0.5, gt=0, le=1, description="share of an event that must be inside, or it is left out of the crop")

    @field_validator("ratio")
    @classmethod
    def _ordered(cls, ratio: tuple[float, float] | None) -> tuple[float, float] | None:
        if ratio is not None and not 0 < ratio[0] <= ratio[1] <= 1:
            raise ValueError("ratio is two increasing numbers above 0, up to 1")
        return ratio


class EventsConfig(Config):
    """From scores of points to events."""

    min_score: float = Field(0.001, ge=0, lt=1)
    points: int = Field(2000, ge=1, description="pairs of a point and a class that are kept of each level")
    min_length: float = Field(0.05, ge=0, description="shorter events are left out, features")
    method: Literal["gaussian", "linear", "hard", "none"] = Field("gaussian", description="suppression of what overlaps with better events")
    sigma: float = Field(0.4, gt=0, description="gaussian: width")
    iou: float = Field(0.1, ge=0, le=1, description="hard, linear: overlap from which on events suppress")
    voting: float | None = Field(
        None, ge=0, le=1, description="starts and ends are averaged over what overlaps so much; null: they are not"
    )
    class_agnostic: bool = Field(False, description="events of all classes suppress each other")
    keep: int = Field(100, ge=1, description="events of a video at most")
    window: int | None = Field(None, ge=1, description="longer videos are seen in windows of so many features; null: whole")
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window that the next one sees again")


class FinetuneConfig(Training):
    """`vid finetune` of a localiser, on features of videos and a manifest of their events."""

    data: FeatureConfig = FeatureConfig(align="linear", max_length=224, pad="max_length")
    towers: TowersConfig | None = Field(None, description="make the features from the videos first; null: data.streams has them")
    annotations: str | None = Field(
        None,
        description="events of the videos, in any format of vid data import; null: rows of the manifest, or annotations.json beside it",
    )
    model: LocalizerConfig = LocalizerConfig()
    loss: LossConfig = LossConfig()
    crop: CropConfig = CropConfig()
    variation: VariationConfig = VariationConfig()
    events: EventsConfig = EventsConfig()
    resize: int | None = Field(None, ge=2, description="all videos are stretched to so many features; null: they are as long as they are")
    protocol: Literal["unav", "thumos", "activitynet", "epic"] = Field("unav", description="how validation counts")
    optim: OptimConfig = OptimConfig(
        base_lr=1e-4, scale_lr=False, warmup_epochs=5, betas=(0.9, 0.999), weight_decay=1e-4, min_lr=1e-8, clip_grad=1.0
    )
    train: TrainConfig = TrainConfig(epochs=45, batch_size=8, ema=0.999)


CONFIGS = {"finetune": FinetuneConfig, "detect": DetectConfig}
