"""Settings of alignment (Han et al., CVPR 2022; thesis chapter 7). Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.core.config import Config
from tasks.core.data.feature_config import FeatureConfig
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.core.towers.made_config import EncoderTower, MotionTower, SoundTower


class WordsConfig(Config):
    """A bag of words in the layout of MIL-NCE (Miech et al., CVPR 2020): embeddings, a layer, the highest value over words, a layer.

    Without a model to start from its words are those of the training sentences, and their embeddings are learned.
    """

    kind: Literal["words"] = "words"
    embedding: int = Field(300, ge=1, description="channels of a word")
    hidden: int | None = Field(2048, ge=1, description="channels of the layer before pooling; null: there is none, embeddings are pooled")
    width: int = Field(512, ge=1, description="channels of a sentence")
    max_words: int = Field(32, ge=1, description="of a sentence; further ones are cut off")
    frozen: bool = Field(False, description="embeddings stay as they are, as word2vec's do in the paper")
    pool: Literal["max", "mean"] = Field("max", description="over words: the highest value, or the mean")


class TowerConfig(Config):
    """A frozen text tower: a CLIP model or a sentence encoder. Sentences are encoded once and kept."""

    kind: Literal["tower"] = "tower"
    model: str = Field(description="folder or hf:// id (core.towers.load_text_tower)")
    vocabulary: str | None = Field(None, description="of a CLIP model, where its folder has none")


class AlignerConfig(Config):
    """The network: an encoder of the video alone, and one of video and sentences together."""

    width: int = Field(512, ge=2)
    heads: int = Field(8, ge=1)
    dual_layers: int = Field(6, ge=0, description="of the encoder of the video alone")
    joint_layers: int = Field(
        6, ge=0, description="of the encoder of video and sentences; 0: it sees no sentences, and the head nothing but them: for few videos"
    )
    positions: int | None = Field(1024, ge=2, description="length of the learned table of positions in time; null: there are none")
    init_std: float = Field(0.01, gt=0, description="first weights of the projections of features and sentences")
    standardize: bool = Field(False, description="features are brought to mean 0 and deviation 1 over the training set, channel by channel")
    stem: int = Field(0, ge=0, description="convolutions over 5 features before the encoders; 0: as published, for features of a second")
    pool: int = Field(1, ge=1, description="mean over so many features behind the stem, an odd number, less that over the window; 1: none")
    input_dropout: float = Field(0.0, ge=0, lt=1, description="share of the numbers of a feature that is left out in training")
    dropout: float = Field(0.0, ge=0, lt=1, description="behind every convolution of the stem, in training")
    head_layer: int | None = Field(
        None, ge=1, description="stage of the joint encoder that the alignability head reads, from 1; null: the last; 3 in the public code"
    )

    @model_validator(mode="after")
    def _fits(self):
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}")
        if self.pool % 2 == 0:
            raise ValueError(f"pool is an odd number of features, not {self.pool}")
        if self.head_layer is not None and self.head_layer > max(self.joint_layers, 1):
            raise ValueError(f"head_layer {self.head_layer} is above joint_layers {self.joint_layers}")
        return self


class WindowConfig(Config):
    """What is cut out of a video for training, and when sentences count as right."""

    start: Literal["sentence", "anywhere"] = Field("sentence", description="a window begins with a random sentence, or at a random feature")
    spread_s: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the errors of given times: features around the middle of a sentence are right with the weight of"
        " a Gaussian, and new times are looked for there; 0: those at its times are right, and new ones may lie anywhere",
    )


class CorrespondenceConfig(Config):
    """Stage 1: sentences correspond to the features at their times."""

    name: Literal["tan"] = "tan"
    temperature: float = Field(0.07, gt=0)


class CotrainConfig(CorrespondenceConfig):
    """Stage 2: times and alignability come from a moving average of the network itself (thesis section 7.3.3)."""

    name: Literal["tan-cotrain"] = "tan-cotrain"
    momentum: float = Field(0.99, ge=0, le=1, description="of the moving average; 0.999 in the public code")
    alpha: float = Field(0.5, gt=0, le=1, description="share of the sentences of a batch that count as alignable")
    windows: Literal["mean", "exclusive"] = Field(
        "mean",
        description="how new times are found: the span with the highest mean similarity; exclusive: after a softmax over sentences and one"
        " over time, without the first and last feature, as the public code",
    )
    agree_iou: float = Field(
        0.0, ge=0, le=1, description="times are changed where both encoders agree by more than this; 0.5, inclusive, in the public code"
    )
    one_sentence: bool = Field(False, description="a feature belongs to the first of several sentences only, as in the public code")
    score: Literal["mean", "max"] = Field(
        "mean",
        description="how alignable a sentence is: mean similarity of the moving average at its time; max: highest similarities of the"
        " network itself, standardised over the batch, as the public code",
    )
    labels: Literal["share", "medians"] = Field(
        "share", description="of the head: the best alpha against the rest; medians: above the median to both encoders against below"
    )
    edges: float = Field(
        0.0, ge=0, lt=0.5, description="sentences in the first or last part of a video count as not alignable; 0.2 in the public code"
    )
    head_weight: float = Field(1.0, ge=0, description="of the alignability loss")
    scored_by: Literal["head", "similarity"] = Field(
        "head",
        description="what tells which sentences belong to a video when the model is used: the head, or how similar they are",
    )


class StagesConfig(CotrainConfig):
    """Features, stage 1 and stage 2 in one run; stage 2 starts from stage 1."""

    name: Literal["tan-stages"] = "tan-stages"
    first_epochs: int = Field(8, ge=1, description="of stage 1; train.epochs is the length of stage 2")
    second_lr: float | None = Field(None, gt=0, description="base learning rate of stage 2; null: optim.base_lr")


AnyMethod = Annotated[CorrespondenceConfig | CotrainConfig | StagesConfig, Field(discriminator="name")]
AnyText = Annotated[WordsConfig | TowerConfig, Field(discriminator="kind")]
AnyTower = Annotated[SoundTower | MotionTower | EncoderTower, Field(discriminator="kind")]


class PretrainConfig(Training):
    """`vid pretrain` of Temporal Alignment Networks."""

    method: AnyMethod = CorrespondenceConfig()
    model: AlignerConfig = AlignerConfig()
    text: AnyText = WordsConfig()
    window: WindowConfig = WindowConfig()
    towers: dict[str, AnyTower] = Field(
        default_factory=dict, description="stream -> what makes its features before training, instead of the folders in data.streams"
    )
    features: str | None = Field(None, description="where features of towers go, a folder for each; null: features/ in the run")
    data: FeatureConfig = FeatureConfig(max_length=64)
    optim: OptimConfig = OptimConfig(base_lr=1e-4, scale_lr=False, betas=(0.9, 0.999), weight_decay=1e-5, warmup_epochs=1)
    train: TrainConfig = TrainConfig(epochs=8, batch_size=64)


class AlignConfig(Config):
    """`vid align`."""

    model: str | None = Field(None, description="model folder, run folder or hf:// id; null: one offset and drift from the sound alone")
    order: Literal["free", "monotone"] = Field("free", description="monotone: sentences stay in their order")
    min_score: float | None = Field(None, ge=0, le=1, description="least score of an alignable sentence; null: the model's own")
    features: dict[str, str] = Field(default_factory=dict, description="stream -> folder of features that were made before")
    max_offset_s: float = Field(60.0, gt=0, description="without a model: the largest shift that is looked for")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    decoder: Literal["auto", "pyav", "decord"] = "auto"


CONFIGS = {"pretrain": PretrainConfig, "align": AlignConfig}
