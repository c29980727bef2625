"""Settings of masked pretraining. Imports no torch."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tasks.core.clips.config import BoxedStream, DataConfig
from tasks.core.config import Config
from tasks.core.engine.config import Training
from tasks.core.nn.config import DecoderConfig, TargetConfig, VitConfig, n_visible


class SamplerConfig(Config):
    """What the settings of every sampler can tell.

    Attributes:
        needs_boxes: whether the sampler looks at where things move (`data.boxes`).
    """

    needs_boxes: ClassVar[bool] = False

    def n_visible(self, grid: tuple[int, int, int], mask_ratio: float) -> int:
        """How many tokens of a clip the encoder sees.

        Args:
            grid: tokens along (time, rows, columns).
            mask_ratio: share of tokens that are hidden.
        """
        return n_visible(math.prod(grid), mask_ratio)


class RandomSampler(SamplerConfig):
    """Uniformly random tokens over space and time."""

    name: Literal["random"] = "random"


class TubeSampler(SamplerConfig):
    """The same random places in every frame (VideoMAE)."""

    name: Literal["tube"] = "tube"

    def n_visible(self, grid: tuple[int, int, int], mask_ratio: float) -> int:
        """Rounds per frame as VideoMAE does: `int(rho * P)` of P places are hidden, so that .90 of 8 x 196 tokens leaves 160 visible and
        not 156.
        """
        frames, rows, columns = grid
        places = rows * columns
        return frames * max(1, places - int(mask_ratio * places + 1e-9))


class MOFOSampler(SamplerConfig):
    """Tubes of which a fixed share is hidden where things move (MOFO, Ahmadian et al., NeurIPS workshop 2023, section 3.2)."""

    needs_boxes: ClassVar[bool] = True

    name: Literal["mofo"] = "mofo"
    inner_ratio: float = Field(0.75, ge=0, le=1, description="share of the tubes in the motion area that is hidden, rounded down")
    rule: Literal["strict", "at-least"] = Field(
        "strict",
        description="the rest of the budget is hidden, strict: outside the area (where that is too small, all of it and then more inside); "
        "at-least: among all tubes that are left",
    )
    box: Literal["union", "first"] = Field("union", description="the motion area: around the boxes of all frames, or the first box")
    overlap: float = Field(0.5, gt=0, le=1, description="share of a tube's cell that the box covers for it to be in the motion area")

    def n_visible(self, grid: tuple[int, int, int], mask_ratio: float) -> int:
        """Rounds per frame, as `TubeSampler`."""
        return TubeSampler().n_visible(grid, mask_ratio)


class AdaMAESampler(SamplerConfig):
    """Attention sampler trained with REINFORCE (AdaMAE, Bandara et al., CVPR 2023)."""

    name: Literal["adamae"] = "adamae"
    heads: int = Field(8, ge=1)
    weight: float = Field(1e-4, gt=0, description="of the sampling loss")
    dropout: float = Field(0.1, ge=0, lt=1)


class TATSSampler(SamplerConfig):
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
    exploration: Literal["kl", "entropy"] = Field(
        "kl",
        description="what c3 weighs: minus the divergence of the uniform distribution from the policy, the mean of log N pi, which has a "
        "finite optimum; or the thesis' entropy, whose force on a token vanishes with its probability",
    )
    min_entropy: float = Field(
        0.1, ge=0, lt=1, description="entropy: the policy's own term rests while the entropy is below this share of ln N; 0: never"
    )
    reward: Literal["token", "video"] = "token"
    ratio_indices: Literal["same", "resampled"] = Field("same", description="resampled: equation 5.8 as printed")
    normalize_advantage: bool = False
    lr: float = Field(1.5e-6, gt=0, description="peak learning rate, scaled and scheduled like the main one")
    eps: float = Field(1e-12, gt=0, description="of Adam: gradients are c1, 1e-4, times small, and one of 1e-8 would still them")
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.05, ge=0)
    clip_grad: float | None = Field(None, gt=0)


AnySampler = Annotated[RandomSampler | TubeSampler | AdaMAESampler | TATSSampler | MOFOSampler, Field(discriminator="name")]


class PretrainConfig(Training):
    """`vid pretrain` of a masked autoencoder."""

    draws = True

    data: BoxedStream = DataConfig()
    model: VitConfig = VitConfig()
    decoder: DecoderConfig = DecoderConfig()
    target: TargetConfig = TargetConfig()
    mask_ratio: float = Field(0.9, gt=0, lt=1)
    sampler: AnySampler = TATSSampler()
    visualize: int = Field(4, ge=0, description="clips shown in the picture at the end of a run")

    @model_validator(mode="after")
    def _boxes(self):
        needed, given = self.sampler.needs_boxes, self.data.boxes is not None
        if needed and not given:
            raise ValueError(
                f"the sampler {self.sampler.name} needs boxes around what moves: "
                "set data.boxes to compute, or to a file that vid motion-boxes wrote"
            )
        if given and not needed:
            raise ValueError(f"the sampler {self.sampler.name} does not look at boxes: set data.boxes to null")
        return self

    @model_validator(mode="after")
    def _tokens_of_the_clip_alone(self):
        if self.model.class_token:
            raise ValueError("pretraining has no class token (head.pool of vid finetune adds one): set model.class_token to false")
        return self

    def n_visible(self) -> int:
        """How many tokens of a clip the encoder sees."""
        return self.sampler.n_visible(self.model.grid(), self.mask_ratio)


CONFIGS = {"pretrain": PretrainConfig}
