"""Settings of action recognition. Imports no torch."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.clips.config import BoxedStream, DataConfig
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig, Training
from tasks.core.nn.config import TokenDropoutConfig
from tasks.core.nn.encoders import AnyEncoder, family_given

MLP_HIDDEN = 512


class MCAConfig(Config):
    """MOFO's multi-cross attention: tokens where things move look at the others, and are averaged."""

    heads: int = Field(3, ge=1)
    depth: int = Field(1, ge=1, description="blocks; more than one helped the paper only with one head")


class HeadConfig(Config):
    """What stands on the encoder.

    `finetune` trains everything with a linear head on mean-pooled tokens; `linear` freezes the encoder and trains a linear layer on them,
    `mlp` two layers; `attentive` freezes it and trains one cross-attention query and a linear layer.
    """

    mode: Literal["finetune", "linear", "mlp", "attentive"] = "finetune"
    pool: Literal["mean", "cls"] = Field(
        "mean", description="mean over tokens, or the class token (a new one where the weights to start from have none)"
    )
    mca: MCAConfig | None = Field(
        None, description="MOFO's head on tokens inside and outside of boxes (finetune; needs data.boxes); null: all tokens are averaged"
    )
    norm: Literal["layer", "batch", "l2-batch", "none"] | None = Field(
        None, description="behind the pooling; null: layer for finetune, batch for linear and mlp; l2-batch: unit length, then batch norm"
    )
    affine: bool = Field(False, description="batch norm with a learned scale and shift (the public code of DPC and CoCLR)")
    hidden: int | None = Field(None, ge=1, description=f"width of a layer before the last one; null: none, for mlp {MLP_HIDDEN}")
    init_scale: float = Field(0.001, gt=0, description="factor on the head's initial weights (finetune)")
    drop_path: float = Field(0.1, ge=0, lt=1, description="stochastic depth of a transformer (finetune)")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last linear layer")
    norm_eps: float = Field(1e-6, gt=0, description="epsilon of the norm behind the pooling; transformers has 1e-5")
    smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing")

    @model_validator(mode="after")
    def _fit(self):
        if self.mode == "attentive" and (self.norm or self.hidden):
            raise ValueError("an attentive probe has its own pooling: set norm and hidden to null")
        if self.mode == "attentive" and self.pool != "mean":
            raise ValueError("an attentive probe looks at all tokens: set pool to mean")
        if self.mca is not None and (self.mode != "finetune" or self.pool != "mean"):
            raise ValueError("mca is trained with the encoder and pools by itself: set mode to finetune and pool to mean, or mca to null")
        if self.mode == "linear" and self.hidden:
            raise ValueError("a linear probe has no hidden layer: set mode to mlp, or hidden to null")
        if self.affine and "batch" not in self.norm_used():
            raise ValueError(f"affine belongs to batch norm, here the norm is {self.norm_used()}: set norm to batch or l2-batch")
        return self

    def norm_used(self) -> str:
        """`norm`, or what null means."""
        return self.norm or ("layer" if self.mode in ("finetune", "attentive") else "batch")

    def hidden_used(self) -> int | None:
        """`hidden`, or what null means."""
        return self.hidden or (MLP_HIDDEN if self.mode == "mlp" else None)


class ViewConfig(Config):
    """Multi-view testing: probabilities are averaged over windows of a video times `crops` squares of each."""

    clips: int = Field(5, ge=1, description="windows that are spread evenly over the video")
    windows: Literal["spread", "half-overlap"] = Field(
        "spread", description="half-overlap: windows over the whole video instead, each half over the one before"
    )
    crops: Literal[1, 3, 10] = Field(3, description="the centre; along the long side; corners and centre, mirrored too")

    def shown(self) -> str:
        """Of results: `5x3`, `half-overlapx10`."""
        return f"{self.clips if self.windows == 'spread' else self.windows}x{self.crops}"


class FinetuneConfig(Training):
    """`vid finetune` for action recognition."""

    data: BoxedStream = DataConfig()
    model: AnyEncoder | None = Field(None, discriminator="family", description="architecture from scratch; null: that of --from")
    head: HeadConfig = HeadConfig()
    discrepancy: bool = Field(
        False, description="from a pretrained dpc or memdpc: the head sees how predictions differ from what comes, not contexts"
    )
    longer: Literal["stretch", "extend"] | None = Field(
        None,
        description="clips of data.clip.frames frames though the model to start from takes fewer: its position codes are stretched over "
        "time, or go on (fixed codes have no end); null: refused",
    )
    turbo: TokenDropoutConfig | None = Field(None, description="token dropout with partial reconstruction; null: all tokens are seen")
    encoder_lr: float = Field(1.0, gt=0, le=1, description="factor on the learning rate of all that is not the head (finetune)")
    views: ViewConfig = ViewConfig()
    optim: OptimConfig = OptimConfig(base_lr=1e-3, betas=(0.9, 0.999), layer_decay=0.75, warmup_epochs=5, min_lr=1e-6, warmup_lr=1e-6)
    train: TrainConfig = TrainConfig(batch_size=8)

    _family = field_validator("model", mode="before")(family_given)

    @model_validator(mode="after")
    def _boxes(self):
        if self.head.mca is not None and self.data.boxes is None:
            raise ValueError("head.mca needs boxes around what moves: set data.boxes to compute, or to a file that vid motion-boxes wrote")
        if self.head.mca is None and self.data.boxes is not None:
            raise ValueError("nothing looks at boxes but head.mca: set data.boxes to null, or head.mca to {}")
        if self.head.mca is not None and (self.augment.mixup or self.augment.cutmix):
            raise ValueError("mixup and cutmix blend clips, whose boxes cannot be blended: set augment.mixup and augment.cutmix to 0")
        return self

    @model_validator(mode="after")
    def _dropout_is_for_training_the_encoder(self):
        if self.turbo is None or not self.turbo.mask:
            return self
        if self.head.mode != "finetune":
            raise ValueError(f"turbo trains the encoder, a {self.head.mode} probe freezes it: set turbo to null, or head.mode to finetune")
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("turbo reconstructs clips as they are, mixup and cutmix blend them: set augment.mixup and augment.cutmix to 0")
        return self


class PageConfig(Config):
    """The page of nearest neighbours (`--write html`)."""

    queries: int = Field(24, ge=1, description="videos shown, half of them with a first neighbour of another class where there are as many")
    neighbours: int = Field(5, ge=1, description="nearest training videos shown of each")
    seed: int = Field(0, ge=0, description="of the draw of queries")


class EvalConfig(Config):
    """`vid eval classify`.

    `finetuned` tests a classifier; `knn` and `retrieval` use frozen features of any encoder, with `data.train` as the gallery. Several
    models (two streams, say) are tested together: their probabilities, or similarities, are averaged. Models to compare with are tested
    one by one on the same videos.
    """

    model: tuple[str, ...] = Field(min_length=1, description="model folders, run folders or hf:// ids; each sees videos in its own way")
    compare: tuple[str, ...] = Field((), description="knn, retrieval: models whose numbers and neighbours stand beside those of `model`")
    protocol: Literal["finetuned", "knn", "retrieval"] = "finetuned"
    views: ViewConfig = ViewConfig()
    data: BoxedStream = DataConfig(clip={})
    k: int = Field(20, ge=1, description="neighbours of knn")
    recall_at: list[int] = Field(default=[1, 5, 10, 20], description="R@k of retrieval")
    center: Literal["gallery", "own", "none"] = Field(
        "gallery", description="knn, retrieval: the mean taken from features: the gallery's from both sets, each set's own, or none"
    )
    keep: float = Field(
        1.0, gt=0, le=1, description="finetuned: share of its tokens that a transformer sees of every view, drawn at random"
    )
    keep_seed: int = Field(0, ge=0, description="of that draw, which is another one for every view")
    batch_size: int = Field(8, ge=1, description="videos per batch")
    strict: bool = False
    save_scores: str | None = Field(None, description="write per-video class probabilities to this CSV file")
    page: PageConfig = PageConfig()

    @field_validator("model", "compare", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def models(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.model, *self.compare)))

    @model_validator(mode="after")
    def _neighbours(self):
        if self.compare and self.protocol == "finetuned":
            raise ValueError("compare stands beside knn and retrieval: set protocol to one of them, or test each classifier by itself")
        if self.keep < 1 and self.protocol != "finetuned":
            raise ValueError(f"keep is for classifiers, {self.protocol} compares features of all tokens: leave keep at 1")
        return self


class LabelConfig(Config):
    """`vid classify`."""

    model: str = Field(description="model folder, run folder or hf:// id of a classifier")
    top: int = Field(5, ge=1, description="classes that are named, the most probable first")
    clips: int = Field(5, ge=1, description="windows that are spread over a video, as in testing; a longer one is seen window by window")
    crops: Literal[1, 3, 10] = Field(3, description="squares of each window: the centre; along the long side; corners, mirrored too")
    hop_s: float | None = Field(
        None, gt=0, description="seconds from window to window; null: window after window, in videos that so many clips do not cover"
    )
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    batch_size: int = Field(8, ge=1, description="windows at a time")


CONFIGS = {"finetune": FinetuneConfig, "eval": EvalConfig, "label": LabelConfig}
