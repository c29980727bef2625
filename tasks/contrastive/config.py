"""Settings of contrastive pretraining: with a queue of keys (Han et al., NeurIPS 2020; thesis chapter 4), and of clips with sentences
(Han et al., BMVC 2022; thesis chapter 6). Imports no torch.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig, TwoStreams
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.core.nn.config import S3DConfig, TokenDropoutConfig, VitConfig

View = Literal["rgb", "flow"]


class QueueConfig(Config):
    """What every method has: a key encoder that follows the query encoder, and a queue of its keys (MoCo, He et al., CVPR 2020)."""

    queue: int = Field(2048, ge=2, description="keys kept; a multiple of the clips of all processes in a micro-batch")
    momentum: float = Field(0.999, ge=0, le=1, description="of the key encoder")
    temperature: float = Field(0.07, gt=0)
    norm: Literal["local", "sync"] = Field(
        "local",
        description="batch norm of each process, keys shuffled between processes as MoCo does; sync: over all processes, so that 2"
        " processes with B videos compute what one with 2 B does",
    )


class InfoNCEConfig(QueueConfig):
    """Instance discrimination: the one positive is another clip of the same video (equation 4.1)."""

    name: Literal["infonce"] = "infonce"


class UberNCEConfig(QueueConfig):
    """The oracle: everything in the queue with the label of the video is a positive too."""

    name: Literal["ubernce"] = "ubernce"
    loss: Literal["outside", "inside"] = Field(
        "outside", description="outside: mean over positives of -log softmax, the public code; inside: -log of their sum, as CoCLR"
    )


class MiningConfig(QueueConfig):
    """How positives are mined (equations 4.2 to 4.5)."""

    topk: int = Field(5, ge=0, description="positives mined for each clip; 0: none, InfoNCE")
    siblings: bool = Field(
        False, description="clips cut from one video, by UCF101's names (..._g08_c01), are never mined and always positive"
    )
    self_mask_prob: float = Field(
        0.9, ge=0, le=1, description="probability, per batch, that the own key is no positive where there are others; 0: as first published"
    )


class CoCLRConfig(MiningConfig):
    """One stage of co-training: one view learns, the frozen network of the other mines its positives."""

    name: Literal["coclr"] = "coclr"
    view: View = Field("rgb", description="the view that learns; the miner sees the other")
    miner: str | None = Field(None, description="frozen encoder of the other view: model folder, run folder or hf:// id")


class StageConfig(Config):
    """Length of a stage."""

    epochs: int = Field(ge=1)
    milestones: tuple[float, ...] = Field((), description="epochs at which the learning rate falls; none: optim.schedule as it is")


class CyclesConfig(MiningConfig):
    """All of CoCLR in one run: InfoNCE on RGB and on flow, then cycles in which RGB and flow learn in turns."""

    name: Literal["coclr-cycles"] = "coclr-cycles"
    cycles: int = Field(2, ge=1)
    first: StageConfig = Field(StageConfig(epochs=300, milestones=(250, 280)), description="InfoNCE, instead of train.epochs")
    scratch: tuple[View, ...] = Field(
        (), description="views whose first stage of co-training starts from new weights, not from those of InfoNCE"
    )
    then: StageConfig = Field(StageConfig(epochs=100, milestones=(80,)), description="each stage of a cycle, instead of train.epochs")


class NewTextConfig(Config):
    """A small transformer of text, as CLIP's, that learns beside the video, with a vocabulary learned from the sentences of training."""

    width: int = Field(128, ge=8, description="channels of a token")
    depth: int = Field(2, ge=1, le=1000, description="layers")
    heads: int = Field(2, ge=1)
    context: int = Field(32, ge=4, le=65_536, description="tokens of a sentence, with start and end; the rest is cut off")
    vocabulary: int = Field(1024, ge=514, description="tokens at most")

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self


class TextConfig(Config):
    """What reads the sentences."""

    exclusive: ClassVar = (("tower", "new"),)

    tower: str | None = Field(
        None, description="frozen: a sentence encoder or a CLIP model, as a folder of transformers, hf://org/repo, or a .pt file"
    )
    new: NewTextConfig | None = Field(None, description="instead of a frozen tower: trained from random weights")
    vocabulary: str | None = Field(None, description="folder or file, for a CLIP model that has none beside it")

    @model_validator(mode="after")
    def _one(self):
        if self.tower is not None and self.new is not None:
            raise ValueError("give tower, which stays as it is, or new, which is trained, not both")
        return self


class VideoTextConfig(Config):
    """Clips and their sentences find each other in a batch (setting B of "Turbo"; thesis section 6.4)."""

    name: Literal["video-text"] = "video-text"
    text: TextConfig = TextConfig()
    dim: int | None = Field(
        None, ge=2, description="length of the compared vectors: both sides are mapped to it; null: that of a frozen tower, and video is"
    )
    temperature: float = Field(0.07, gt=0, description="similarities are divided by it; the paper writes none")
    cosine: bool = Field(True, description="vectors are compared by their cosine; false: by their dot product, as the paper's formula")
    encoder_lr: float = Field(1.0, gt=0, le=1, description="factor on the learning rate of the video encoder")
    dropout: TokenDropoutConfig = TokenDropoutConfig(mask=0.75, reconstruct=0.25)
    jitter_s: float = Field(
        0.5, ge=0, description="a clip longer than its sentence is moved by up to so much around its middle in training"
    )


AnyMethod = Annotated[InfoNCEConfig | UberNCEConfig | CoCLRConfig | CyclesConfig | VideoTextConfig, Field(discriminator="name")]


def _family_given(value: Any) -> Any:
    return {"family": "s3d", **value} if isinstance(value, Mapping) else value


AnyModel = Annotated[S3DConfig | VitConfig, Field(discriminator="family"), BeforeValidator(_family_given)]


class PairConfig(Config):
    """The two clips of a video, of methods with a queue (thesis section 4.4; shares from the public code)."""

    one_clip: float = Field(
        0.5, ge=0, le=1, description="probability that query and key see the same frames, one of them in full augmentation"
    )
    full: float = Field(0.3, ge=0, le=1, description="of two different clips: probability of full augmentation, of each by itself")
    min_share: float = Field(
        0.5, ge=0, le=1, description="videos with fewer frames than this share of a clip are skipped; shorter ones end in a still"
    )


class PretrainConfig(Training):
    """`vid pretrain` of InfoNCE, UberNCE, CoCLR, and of video with text."""

    method: AnyMethod = InfoNCEConfig()
    model: AnyModel = S3DConfig(projection=128)
    pairs: PairConfig = PairConfig()
    data: TwoStreams = DataConfig(clip=ClipConfig(frames=32, stride_frames=1))
    augment: AugmentConfig = AugmentConfig(
        crop="resized", scale=(0.2, 1.0), flip=0.5, color=0.4, color_prob=0.8, gray=0.2, blur=0.5, color_flow=True
    )
    optim: OptimConfig = OptimConfig(name="adam", base_lr=1e-3, scale_lr=False, schedule="constant", betas=(0.9, 0.999), weight_decay=1e-5)
    train: TrainConfig = TrainConfig(epochs=300, batch_size=32)

    @model_validator(mode="after")
    def _streams(self):
        if isinstance(self.method, VideoTextConfig):
            return self._words()
        if self.model.family != "s3d":
            raise ValueError(f"{self.method.name} needs an encoder of the family s3d, not {self.model.family}")
        if self.model.projection is None:
            raise ValueError("model.projection must be a number: keys are compared behind the projection head")
        if self.augment.flow:
            raise ValueError("augment.flow does not go with these methods: read flow with data.flow")
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("augment.mixup and augment.cutmix mix labels, which keys have none of: set them to 0")
        flow, two = self.data.flow, isinstance(self.method, MiningConfig)
        if flow is not None and flow.channels != 3:
            raise ValueError("data.flow.channels must be 3: the network takes pictures")
        if flow is not None and flow.frames != two:
            state = "sees frames and flow: set data.flow.frames to true" if two else "sees one stream: set data.flow.frames to false"
            raise ValueError(f"{self.method.name} {state}")
        return self

    def _words(self):
        """Of video with text."""
        if self.model.family != "vit":
            raise ValueError(f"video-text needs an encoder of the family vit, not {self.model.family}: set model.family to vit")
        if self.data.clip.frames != self.model.frames:
            raise ValueError(f"data.clip.frames is {self.data.clip.frames}, the encoder takes {self.model.frames}: set them alike")
        if self.data.clip.sampling != "dense" or self.data.repeats != 1:
            raise ValueError("video-text takes one dense clip for a sentence: set data.clip.sampling to dense and data.repeats to 1")
        if self.data.flow is not None or self.augment.flow:
            raise ValueError("video-text sees colours: set data.flow and augment.flow to null")
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("augment.mixup and augment.cutmix mix labels, which sentences are not: set them to 0")
        return self

    @property
    def view(self) -> View:
        """What the network that learns sees."""
        if isinstance(self.method, CoCLRConfig):
            return self.method.view
        return "rgb" if self.data.flow is None else "flow"


CONFIGS = {"pretrain": PretrainConfig}
