"""What the masked autoencoder asks of a sampler."""

from dataclasses import dataclass, field

import torch
from torch import nn

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.masked.config import SamplerConfig


@dataclass
class Choice:
    """Which tokens are seen.

    Attributes:
        visible: `(B, n_visible)` int64 token indices, ascending.
        masked: `(B, N - n_visible)` the others, ascending.
        log_probs: `(B, N)` float32 log-probabilities of the policy that drew them; None for a fixed rule.
        extra: what the sampler wants back in `learn`.
    """

    visible: torch.Tensor
    masked: torch.Tensor
    log_probs: torch.Tensor | None = None
    extra: dict = field(default_factory=dict)


def split(order: torch.Tensor, visible: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First `visible` columns of a permutation `(B, N)` and the rest, each sorted."""
    return order[:, :visible].sort(-1).values, order[:, visible:].sort(-1).values


def draw(log_probs: torch.Tensor, visible: int, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws `visible` tokens without replacement from categorical distributions: the Gumbel top-k form of successive draws.

    Args:
        log_probs: `(B, N)`.
        noise: `(B, N)` uniform in [0, 1).

    Returns:
        visible and masked indices, sorted.
    """
    gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
    return split((log_probs.detach() + gumbel).argsort(-1, descending=True), visible)


class Sampler(nn.Module):
    """Base of the samplers.

    `needs_tokens` says whether all tokens must be embedded before the choice; a sampler that does not look at the video leaves the
    autoencoder to embed visible tokens only. `teaches_tokenizer`: its loss reaches the tokenizer through them. Whether it looks at boxes
    its settings say (`SamplerConfig.needs_boxes`).
    """

    needs_tokens = False
    teaches_tokenizer = False

    def __init__(self, config: SamplerConfig, model: VitConfig, mask_ratio: float):
        super().__init__()
        self.n_tokens = model.n_tokens()
        self.n_visible = config.n_visible(model.grid(), mask_ratio)

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        """Chooses for `n` clips.

        Args:
            tokens: `(n, N, dim)` embedded without positions, or None where not needed.
            n: clips.
            rng: of the step.
            progress: of the run.
            boxes: `(n, T, 4)` px of the clips, zeros for a frame without one; None where there are none.
        """
        raise NotImplementedError

    def learn(self, choice: Choice, errors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Takes the reconstruction errors `(n, n_masked)` of a training step. A returned `loss` is added to the reconstruction loss."""
        return {}

    def num_updates(self, progress: Progress) -> int:
        """How many own optimizer steps (`policy_loss`) follow this training step."""
        return 0

    def policy_loss(self) -> dict[str, torch.Tensor]:
        """One own step: `loss` and what to log."""
        raise NotImplementedError

    def optimizer_groups(self) -> dict | None:
        """Settings of the sampler's own optimizer; None: the sampler's parameters, if any, belong to the main one."""
        return None

    def extra_state(self) -> list[dict]:
        """What a resumed run needs beyond parameters and buffers, as tensors and numbers."""
        return []

    def load_extra_state(self, state: list[dict]) -> None:
        """Takes back what `extra_state` gave."""
