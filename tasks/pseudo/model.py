"""The 7-channel latent inpainting model: a VQ autoencoder, and a UNet over noised latent, latent of the masked picture, and mask.

The architecture of latent diffusion (Rombach et al., CVPR 2022) as the CompVis release inpaints with it; the networks and the scheduler
are those of diffusers. A folder of it is a diffusers folder: `model_index.json`, `vqvae/` (VQModel), `unet/` (UNet2DModel), `scheduler/`.

Latents enter the UNet as the encoder gives them, without a scaling factor (CompVis' and diffusers' latent diffusion pipelines know none
for VQ models): what is trained here has its scale folded into the autoencoder's weights, see `fold`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DModel, VQModel
from torch import Tensor

from tasks.pseudo.config import LATENT_CHANNELS, AutoencoderConfig, DiffusionConfig, LatentConfig, UnetConfig


def make_autoencoder(config: AutoencoderConfig, image_size: int) -> VQModel:
    """A VQ autoencoder of RGB pictures in [-1, 1]."""
    levels = len(config.channels)
    return VQModel(
        block_out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=config.layers,
        latent_channels=LATENT_CHANNELS,
        num_vq_embeddings=config.codes,
        norm_num_groups=config.groups,
        mid_block_add_attention=config.attention,
        sample_size=image_size,
        scaling_factor=1.0,
    )


def make_unet(config: UnetConfig, latent_size: int) -> UNet2DModel:
    """A UNet from 7 channels to the 3 of the latent."""
    levels = len(config.channels)
    plain = max(0, levels - config.attention)
    return UNet2DModel(
        sample_size=latent_size,
        in_channels=2 * LATENT_CHANNELS + 1,
        out_channels=LATENT_CHANNELS,
        block_out_channels=config.channels,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * (levels - plain),
        up_block_types=("AttnUpBlock2D",) * (levels - plain) + ("UpBlock2D",) * plain,
        layers_per_block=config.layers,
        attention_head_dim=config.head_dim,
        norm_num_groups=config.groups,
        add_attention=config.attention > 0,
    )


def make_scheduler(config: DiffusionConfig) -> DDIMScheduler:
    """DDIM over CompVis' noise schedule: its inference steps are 1, 1 + 1000 / S, ... and the last one ends at the first noise level."""
    return DDIMScheduler(
        num_train_timesteps=config.steps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="scaled_linear",
        prediction_type=config.prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build(config: LatentConfig) -> tuple[VQModel, UNet2DModel, DDIMScheduler]:
    """The three parts with random weights."""
    latent_size = config.image_size // 2 ** (len(config.autoencoder.channels) - 1)
    return (
        make_autoencoder(config.autoencoder, config.image_size),
        make_unet(config.unet, latent_size),
        make_scheduler(config.diffusion),
    )


def condition(encode: Any, pictures: Tensor, holes: Tensor) -> Tensor:
    """What the UNet knows: the latent of the picture without its holes, and the mask at the latent's size.

    Args:
        encode: from pictures to latents.
        pictures: `(B, 3, H, W)` in [-1, 1].
        holes: `(B, 1, H, W)`, 1 = hole, 0 = keep.

    Returns:
        `(B, 4, h, w)`: 3 channels of latent; the mask, nearest neighbour, scaled like everything to [-1, 1] (1 = hole, -1 = keep).
        Hole pixels are black (-1) in the masked picture: `(1 - m) x` in [0, 1].
    """
    known = encode((1 - holes) * (pictures + 1) - 1)
    mask = F.interpolate(holes, size=known.shape[-2:], mode="nearest")
    return torch.cat((known, 2 * mask.to(known.dtype) - 1), 1)


@torch.no_grad()
def sample(unet: Any, scheduler: DDIMScheduler, known: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Latents by DDIM with eta 0.

    Args:
        unet: UNet2DModel, or UNet2DConditionModel (it gets zeros for a text).
        known: `(B, 4, h, w)`.
        noise: `(B, 3, h, w)`.

    Returns:
        `(B, 3, h, w)`.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise * scheduler.init_noise_sigma
    text = {}
    if width := unet.config.get("cross_attention_dim"):
        text = {"encoder_hidden_states": noise.new_zeros(len(noise), 1, width if isinstance(width, int) else width[0])}
    for t in scheduler.timesteps:
        prediction = unet(torch.cat((latents, known), 1), t, **text).sample.to(latents.dtype)
        latents = scheduler.step(prediction, t, latents, eta=0.0).prev_sample
    return latents


@torch.no_grad()
def fold(autoencoder: VQModel, mean: Tensor, std: Tensor) -> None:
    """Changes the autoencoder in place so that its latents have mean 0 and standard deviation 1; what it reconstructs stays the same.

    With one scale for all channels the nearest code stays the nearest: z' = (z - mean) / std for latents and codes, and the first layer of
    the decoder undoes it.

    Args:
        mean: `(3,)`.
        std: scalar.
    """
    inward, outward, codes = autoencoder.quant_conv, autoencoder.post_quant_conv, autoencoder.quantize.embedding.weight
    inward.weight.div_(std)
    inward.bias.sub_(mean).div_(std)
    codes.sub_(mean).div_(std)
    outward.bias.add_(outward.weight[:, :, 0, 0] @ mean)
    outward.weight.mul_(std)
