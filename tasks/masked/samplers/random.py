"""Uniformly random space-time tokens (STMAE, Feichtenhofer et al. 2022)."""

import torch

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.masked.samplers.base import Choice, Sampler, split


class RandomTokens(Sampler):
    """Every set of tokens is equally likely."""

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        return Choice(*split(rng.rand(n, self.n_tokens).argsort(-1), self.n_visible))
