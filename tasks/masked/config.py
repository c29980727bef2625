"""Settings of masked pretraining. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.core.clips.config import AugmentConfig, DataConfig, OneStream
from tasks.core.config import Config
from tasks.core.engine.config import OptimConfig, TrainConfig
from tasks.core.nn.config import TargetConfig, VitConfig


class RandomSampler(Config):
    """Uniformly random tokens over space and time."""

    name: Literal["random"] = "random"


class TubeSampler(Config):
    """The same random places in every frame (VideoMAE)."""

    name: Literal["tube"] = "tube"


class AdaMAESampler(Config):
    """Attention sampler trained with REINFORCE (AdaMAE, Bandara et al., CVPR 2023)."""

    name: Literal["adamae"] = "adamae"
    heads: int = Field(8, ge=1)
    weight: float = Field(1e-4, gt=0, description="of the sampling loss")
    dropout: float = Field(0.1, ge=0, lt=1)


class TATSSampler(Config):
    """Trajectory-aware token sampler trained with PPO (TATS thesis, chapter 5, table 5.4)."""

    name: Literal["tats"] = "tats"
    attention: Literal["trajectory", "joint"] = Field(
        "trajectory", description="joint: plain multi-head attention, the ablation of table 5.8"
    )
    landmarks: int | None = Field(None, ge=1, description="Orthoformer landmarks; null: exact trajectory attention")
    blocks: int = Field(1, ge=1, description="sampler blocks; the thesis found that more than one collapses")
    dim: int | None = Field(None, ge=8, description="width of the policy; null: the encoder's, as in the thesis; half of it costs a third")
    heads: int = Field(8, ge=1)
    value_hidden: int | None = Field(None, ge=1, description="hidden units of the critic; null: half the number of tokens")
    raw_values: bool = False
    position: bool = Field(True, description="learned position embedding, starting at zero")
    temperature: float = Field(1.0, gt=0)
    warmup_epochs: int = Field(10, ge=0, description="m_o: epochs with uniformly random tokens before the sampler is used")
    every: int = Field(1, ge=1, description="k: steps between sampler updates; that many episodes are kept")
    ppo_epochs: int = Field(1, ge=1, description="passes over the kept episodes")
    keep_graph: bool = Field(
        True, description="with every: 1, learn from the very pass that drew: same numbers, a pass less, its activations held for the step"
    )
    clip: float = Field(0.2, gt=0, description="epsilon of the clipped ratio")
    policy_weight: float = Field(1e-4, ge=0, description="c1")
    value_weight: float = Field(1e-4, ge=0, description="c2")
    entropy_weight: float = Field(1e-4, ge=0, description="c3")
    reward: Literal["token", "video"] = "token"
    ratio_indices: Literal["same", "resampled"] = Field("same", description="resampled: equation 5.8 as printed")
    normalize_advantage: bool = False
    lr: float = Field(1.5e-6, gt=0, description="peak learning rate, scaled and scheduled like the main one")
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.05, ge=0)
    clip_grad: float | None = Field(None, gt=0)


AnySampler = Annotated[RandomSampler | TubeSampler | AdaMAESampler | TATSSampler, Field(discriminator="name")]


class DecoderConfig(Config):
    """The light decoder; unset widths follow the encoder (half its width, heads of 64)."""

    dim: int | None = Field(None, ge=8)
    depth: int = Field(4, ge=1, le=1000)
    heads: int | None = Field(None, ge=1)
    norm_eps: float = Field(1e-6, gt=0, description="epsilon of the last layer norm; transformers has 1e-5")


class PretrainConfig(Config):
    """`vid pretrain` of a masked autoencoder."""

    model: VitConfig = VitConfig()
    decoder: DecoderConfig = DecoderConfig()
    target: TargetConfig = TargetConfig()
    mask_ratio: float = Field(0.9, gt=0, lt=1)
    sampler: AnySampler = TATSSampler()
    data: OneStream = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    init: str | None = Field(None, description="start the encoder from this model folder, run folder or hf:// id")
    visualize: int = Field(4, ge=0, description="clips shown in the picture at the end of a run")


CONFIGS = {"pretrain": PretrainConfig}
