"""Training of the inpainting model as the loop sees it: first the autoencoder, then the UNet over its latents."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from tasks.core.engine.method import MAIN, Method, OptimizerSpec, Progress
from tasks.core.engine.optim import make_groups
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.precision import full_precision
from tasks.pseudo.config import PretrainConfig
from tasks.pseudo.masks import random_mask
from tasks.pseudo.model import build, condition

_MEMORY = 0.95
"""Share of the running mean and standard deviation of the latents that a step keeps."""


class LatentInpainting(Method):
    """A VQ autoencoder, and a UNet that fills holes in its latents.

    The first `autoencoder_share` of the steps train the autoencoder on whole pictures (mean absolute error and the codebook's loss; no
    perceptual or adversarial loss, which would need another network). Then it is frozen, and the UNet learns to predict the noise in
    latents that were standardised by the autoencoder's running statistics, given the picture without its holes.

    A batch has `video`, `(B, 1, 3, S, S)` float32 in [-1, 1], and `holes`, `(B, 1, S, S)` float32, 1 = hole.
    """

    uneven = True

    def __init__(self, config: PretrainConfig):
        super().__init__()
        self.config = config
        self.autoencoder, self.unet, self.scheduler = build(config.model)
        self.register_buffer("latent_mean", torch.zeros(3))
        self.register_buffer("latent_square", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("used", torch.zeros(config.model.autoencoder.codes))
        self.register_buffer("revived_at", torch.zeros((), dtype=torch.long))

    def forward(self, batch: dict, rng: BatchRandom, progress: Progress, phase: str = MAIN) -> dict[str, Tensor]:
        pictures = batch["video"][:, 0]
        if progress.step < self.autoencoder_steps(progress.total_steps):
            return self.reconstruct(pictures, rng, progress.step)
        return self.denoise(pictures, batch["holes"], rng)

    def autoencoder_steps(self, total: int) -> int:
        """Steps of the first stage out of `total`; both stages get one at least where there are two."""
        return min(max(1, round(self.config.autoencoder_share * total)), max(1, total - 1))

    def reconstruct(self, pictures: Tensor, rng: BatchRandom, step: int) -> dict[str, Tensor]:
        """First stage: losses of the autoencoder."""
        net = self.autoencoder
        latents = net.encode(pictures).latents
        self._revive(latents.detach(), rng, step)
        codes, codebook, (_, _, indices) = net.quantize(latents)
        self._remember(full_precision(latents.detach()), indices)
        decoded = net.decoder(net.post_quant_conv(codes))
        error = F.l1_loss(full_precision(decoded), pictures)
        return {"loss": error + self.config.model.autoencoder.codebook_weight * codebook, "reconstruction": error.detach()}

    def denoise(self, pictures: Tensor, holes: Tensor, rng: BatchRandom) -> dict[str, Tensor]:
        """Second stage: mean squared error of what the UNet predicts, over the whole latent as CompVis trains it."""
        n, schedule = len(pictures), self.scheduler
        with torch.no_grad():
            latents = self.encode(pictures)
            known = condition(self.encode, pictures, holes)
        noise = normal(rng, n, *latents.shape[1:])
        times = (rng.rand(n) * schedule.config.num_train_timesteps).long()
        guess = self.unet(torch.cat((schedule.add_noise(latents, noise, times), known), 1), times).sample
        target = noise if schedule.config.prediction_type == "epsilon" else schedule.get_velocity(latents, noise, times)
        loss = F.mse_loss(full_precision(guess), target)
        return {"loss": loss, "denoising": loss.detach()}

    def encode(self, pictures: Tensor) -> Tensor:
        """Standardised latents `(B, 3, h, w)` float32 of pictures in [-1, 1]."""
        return (full_precision(self.autoencoder.encode(pictures).latents) - self.mean[:, None, None]) / self.std

    @property
    def mean(self) -> Tensor:
        """Running mean of the latents, `(3,)`."""
        return self.latent_mean / self.seen.clamp(min=1e-6)

    @property
    def std(self) -> Tensor:
        """Running standard deviation of the latents around it, one number for all channels."""
        return (self.latent_square / self.seen.clamp(min=1e-6) - self.mean.square().mean()).clamp(min=1e-8).sqrt()

    def _remember(self, latents: Tensor, indices: Tensor) -> None:
        """Running statistics over the latents of all processes, which may differ in how many they have."""
        fresh = 1 - _MEMORY
        sums = torch.cat((latents.sum((0, 2, 3)), latents.square().sum()[None], latents.new_tensor([latents[:, 0].numel()])))
        met = torch.bincount(indices.flatten(), minlength=len(self.used)).to(self.used.dtype)
        if dist.is_initialized():
            dist.all_reduce(sums)
            dist.all_reduce(met)
        self.latent_mean.mul_(_MEMORY).add_(sums[:-2] / sums[-1], alpha=fresh)
        self.latent_square.mul_(_MEMORY).add_(sums[-2] / sums[-1] / latents.shape[1], alpha=fresh)
        self.seen.mul_(_MEMORY).add_(fresh)
        self.used += met

    @torch.no_grad()
    def _revive(self, latents: Tensor, rng: BatchRandom, step: int) -> None:
        """Codes that no latent came near to for a while move to where latents are; otherwise few would ever be used."""
        if step - int(self.revived_at) < self.config.revive_every:
            return
        dead = self.used == 0
        codes = self.autoencoder.quantize.embedding.weight
        pool = full_precision(latents).movedim(1, -1).flatten(0, -2)
        if dist.is_initialized():
            told: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(told, pool.cpu())
            pool = torch.cat(told).to(pool)
        chosen = torch.randint(len(pool), (len(codes),), generator=rng.generator, device=rng.device)
        codes.copy_(torch.where(dead[:, None], pool[chosen], codes))
        self.used.zero_()
        self.revived_at.fill_(step)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        optim = self.config.optim
        groups = make_groups(self.named_parameters(), optim.weight_decay)
        return {MAIN: OptimizerSpec.of(groups, optim)}


def normal(rng: BatchRandom, n: int, *shape: int) -> Tensor:
    """`(n, *shape)` float32 standard normal, by the inverse of its distribution function."""
    return torch.special.ndtri(rng.rand(n, *shape).clamp(1e-7, 1 - 1e-7))


def training_holes(seeds: list[int], size: int, scale_px: int) -> Tensor:
    """Random masks `(B, 1, size, size)` float32, 1 = hole, each a function of its seed.

    Args:
        scale_px: short side of the frames to which the masks' sizes belong.
    """
    masks = [random_mask(size, size, np.random.default_rng(seed), scale_px) for seed in seeds]
    return torch.from_numpy(np.stack(masks)).float()[:, None]
