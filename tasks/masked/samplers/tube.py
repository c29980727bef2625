"""Tubes: the same random places are seen in every frame (VideoMAE, Tong et al. 2022, section 3.3)."""

import torch

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.core.nn.token_dropout import through_time
from tasks.masked.config import TubeSampler
from tasks.masked.samplers.base import Choice, Sampler, split


class Tubes(Sampler):
    """Every set of places is equally likely."""

    def __init__(self, config: TubeSampler, model: VitConfig, mask_ratio: float):
        super().__init__(config, model, mask_ratio)
        self.grid = model.grid()
        self.places = self.n_tokens // self.grid[0]
        self.seen_places = self.n_visible // self.grid[0]

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        seen, hidden = split(rng.rand(n, self.places).argsort(-1), self.seen_places)
        return Choice(through_time(seen, self.grid), through_time(hidden, self.grid))
