"""Settings of the training loop that every training verb shares. Imports no torch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.core.clips.config import AugmentConfig, DataConfig, OneStream
from tasks.core.config import Config


class OptimConfig(Config):
    """Optimizer and learning-rate schedule.

    The learning rate used is `base_lr * global_batch / 256` when `scale_lr` is set, else `base_lr`; the same factor applies to
    `min_lr` and `warmup_lr` (as VideoMAE's public code does).
    """

    name: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="adamw decays weights apart from the gradient, adam and sgd by it (L2)"
    )
    base_lr: float = Field(1.5e-4, gt=0)
    scale_lr: bool = True
    schedule: Literal["cosine", "constant", "steps"] = Field("cosine", description="after the warm-up; steps: by gamma at every milestone")
    milestones: tuple[float, ...] = Field((), description="steps: epochs at which the learning rate falls, increasing")
    gamma: float = Field(0.1, gt=0, description="steps: factor of each fall")
    min_lr: float = Field(0.0, ge=0, description="cosine: learning rate at its end, before scaling")
    warmup_lr: float = Field(0.0, ge=0, description="learning rate at step 0, before scaling")
    warmup_epochs: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(True, description="SGD only: Nesterov's momentum")
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.05, ge=0, description="not applied to biases, norms and position embeddings")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning-rate factor per layer, counted from the head down")
    clip_grad: float | None = Field(None, gt=0, description="maximum gradient norm; null: no clipping")

    @model_validator(mode="after")
    def _milestones(self):
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("milestones go with schedule: steps, and steps needs them")
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) <= 0:
            raise ValueError(f"milestones {list(self.milestones)} must be epochs above 0 that increase")
        return self


class TrainConfig(Config):
    """Length, batch, precision and what is kept."""

    epochs: int = Field(100, ge=1, description="passes over the training set")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimizer steps whatever epochs says")
    batch_size: int = Field(32, ge=1, description="clips per process and micro-batch")
    accumulate: int = Field(1, ge=1, description="micro-batches per optimizer step")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 on CUDA, fp32 on the CPU")
    compile: bool = Field(False, description="torch.compile the model")
    shard: bool = Field(False, description="split weights, gradients and optimizer states over the processes (FSDP), for large models")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of an exponential moving average of the weights, per step")
    save_every_s: float = Field(1800, gt=0, description="wall-clock seconds between checkpoints")
    save_every_epochs: int | None = Field(None, ge=1)
    save_every_steps: int | None = Field(None, ge=1)
    keep_last: int = Field(2, ge=1, description="checkpoints kept")
    eval_every_epochs: int | None = Field(None, ge=1, description="validation interval; null: only at the end")
    log_every_steps: int = Field(10, ge=1)
    tensorboard: bool = False
    seed: int = Field(0, ge=0)
    strict: bool = Field(False, description="stop at the first unreadable video instead of skipping it")


class Training(Config):
    """The sections that every training verb has; a verb adds its own and gives them other defaults.

    Attributes:
        draws: whether the verb can draw pictures of clips at the end of a run (`visualize`).
    """

    draws: ClassVar[bool] = False

    data: OneStream = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    init: str | None = Field(None, description="start from the weights of this model folder, run folder or hf:// id")
    visualize: int = Field(0, ge=0, description="clips shown in the picture at the end of a run")

    @model_validator(mode="after")
    def _pictures(self):
        if self.visualize and not self.draws:
            raise ValueError("visualize: this verb draws no pictures, leave it at 0")
        return self
