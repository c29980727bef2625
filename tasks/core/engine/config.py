"""Settings of the training loop that every training verb shares. Imports no torch."""

from typing import Literal

from pydantic import Field

from tasks.core.config import Config


class OptimConfig(Config):
    """Optimizer and learning-rate schedule.

    The learning rate used is `base_lr * global_batch / 256` when `scale_lr` is set, else `base_lr`; the same factor applies to
    `min_lr` and `warmup_lr` (as VideoMAE's public code does).
    """

    name: Literal["adamw", "sgd"] = "adamw"
    base_lr: float = Field(1.5e-4, gt=0)
    scale_lr: bool = True
    min_lr: float = Field(0.0, ge=0, description="learning rate at the end of the cosine, before scaling")
    warmup_lr: float = Field(0.0, ge=0, description="learning rate at step 0, before scaling")
    warmup_epochs: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    nesterov: bool = Field(True, description="SGD only: Nesterov's momentum")
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.05, ge=0, description="not applied to biases, norms and position embeddings")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning-rate factor per layer, counted from the head down")
    clip_grad: float | None = Field(None, gt=0, description="maximum gradient norm; null: no clipping")


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
