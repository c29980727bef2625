"""AdaMAE: an attention block gives every token a probability of being seen, trained by REINFORCE on the reconstruction error.

Source: Bandara et al., "AdaMAE: Adaptive masking for efficient spatiotemporal learning with masked autoencoders", CVPR 2023, section 3.
"""

import torch
from torch import nn

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.vit import Block, init_linear
from tasks.masked.config import AdaMAESampler
from tasks.masked.samplers.base import Choice, Sampler, draw


class AdaMAE(Sampler):
    """Sampling loss: minus the mean over masked tokens of log pi_i times the (detached) error of token i, equation 6.

    As in the authors' code the tokens are not detached, so this loss also reaches the tokenizer, and dropout 0.1 acts on the block's
    projections.
    """

    needs_tokens = True
    teaches_tokenizer = True

    def __init__(self, config: AdaMAESampler, model: VitConfig, mask_ratio: float):
        super().__init__(config, model, mask_ratio)
        dim = model.widths()[0]
        self.weight = config.weight
        self.position = nn.Parameter(torch.zeros(1, self.n_tokens, dim))
        self.block = Block(dim, config.heads)
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(dim, 1)
        self.apply(init_linear)

    def log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, N, dim)` to `(B, N)` float32 log-probabilities."""
        x = tokens + self.position.to(tokens.dtype)
        x = x + self.dropout(self.block.attn(self.block.norm1(x)))
        x = x + self.dropout(self.block.mlp(self.block.norm2(x)))
        return torch.nan_to_num(full_precision(self.score(x).squeeze(-1))).log_softmax(-1)

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        log_probs = self.log_probs(tokens)
        return Choice(*draw(log_probs, self.n_visible, rng.rand(n, self.n_tokens)), log_probs=log_probs)

    def learn(self, choice: Choice, errors: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = -(choice.log_probs.gather(1, choice.masked) * errors.detach()).mean()
        entropy = -(choice.log_probs.exp() * choice.log_probs).sum(-1).mean()
        return {"loss": self.weight * loss, "entropy": entropy.detach()}
