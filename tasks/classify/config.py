"""Settings of action recognition. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.clips.config import AugmentConfig, DataConfig, OneStream
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.nn.config import VitConfig


class HeadConfig(Config):
    """What stands on the encoder.

    `finetune` trains everything with a linear head on mean-pooled tokens; `linear` freezes the encoder and trains a batch-normalised
    linear layer;
    `attentive` freezes it and trains one cross-attention query and a linear layer.
    """

    mode: Literal["finetune", "linear", "attentive"] = "finetune"
    init_scale: float = Field(0.001, gt=0, description="factor on the head's initial weights")
    drop_path: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last linear layer")
    norm_eps: float = Field(1e-6, gt=0, description="epsilon of the layer norm after pooling (finetune); transformers has 1e-5")
    smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing")


class ViewConfig(Config):
    """Multi-view testing: probabilities are averaged over `clips` windows spread over the video times `crops` squares along its long
    side.
    """

    clips: int = Field(5, ge=1)
    crops: Literal[1, 3] = 3


class FinetuneConfig(Config):
    """`vid finetune` for action recognition."""

    model: VitConfig | None = Field(None, description="architecture from scratch; null: that of --from")
    head: HeadConfig = HeadConfig()
    views: ViewConfig = ViewConfig()
    data: OneStream = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig(base_lr=1e-3, betas=(0.9, 0.999), layer_decay=0.75, warmup_epochs=5, min_lr=1e-6, warmup_lr=1e-6)
    train: TrainConfig = TrainConfig(batch_size=8)
    init: str | None = Field(None, description="model folder, run folder or hf:// id to take the encoder from")


class EvalConfig(Config):
    """`vid eval classify`.

    `finetuned` tests a classifier; `knn` and `retrieval` use frozen features of any encoder, with `data.train` as the gallery.
    """

    model: str
    protocol: Literal["finetuned", "knn", "retrieval"] = "finetuned"
    views: ViewConfig = ViewConfig()
    data: OneStream = DataConfig(clip={})
    k: int = Field(20, ge=1, description="neighbours of knn")
    recall_at: list[int] = Field(default=[1, 5, 10, 20], description="R@k of retrieval")
    batch_size: int = Field(8, ge=1, description="videos per batch")
    strict: bool = False
    save_scores: str | None = Field(None, description="write per-video class probabilities to this CSV file")


CONFIGS = {"finetune": FinetuneConfig, "eval": EvalConfig}
