"""Tubes: the same random places are seen in every frame (VideoMAE, Tong et al. 2022, section 3.3)."""

import torch

from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.config import VitConfig
from tasks.masked.config import TubeSampler
from tasks.masked.samplers.base import Choice, Sampler, split


class Tubes(Sampler):
    """Every set of places is equally likely."""

    def __init__(self, config: TubeSampler, model: VitConfig, mask_ratio: float):
        super().__init__(config, model, mask_ratio)
        self.frames = model.grid()[0]
        self.places = self.n_tokens // self.frames
        self.seen_places = self.n_visible // self.frames

    def choose(
        self, tokens: torch.Tensor | None, n: int, rng: BatchRandom, progress: Progress, boxes: torch.Tensor | None = None
    ) -> Choice:
        seen, hidden = split(rng.rand(n, self.places).argsort(-1), self.seen_places)
        return Choice(self.through_time(seen), self.through_time(hidden))

    def through_time(self, places: torch.Tensor) -> torch.Tensor:
        """Places `(B, n)` of a frame as tokens of all frames `(B, frames * n)`."""
        offsets = torch.arange(self.frames, device=places.device) * self.places
        return (offsets[None, :, None] + places[:, None]).flatten(1)
