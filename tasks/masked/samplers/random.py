"""Uniformly random space-time tokens (STMAE, Feichtenhofer et al. 2022)."""

import torch

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.masked.config import RandomSampler
from tasks.masked.samplers.base import Choice, Sampler, split


class RandomTokens(Sampler):
    """Every set of tokens is equally likely."""

    def __init__(self, config: RandomSampler, model: VitConfig, mask_ratio: float):
        super().__init__(model, mask_ratio)

    def choose(self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress) -> Choice:
        return Choice(*split(rng.rand(n, self.n_tokens).argsort(-1), self.n_visible))
