"""Tiny videos and inpainting models with random weights, through the real code of diffusers."""

import numpy as np
import torch

from tasks.core.data.synthetic import encode
from tasks.pseudo.config import LatentConfig, PretrainConfig
from tasks.pseudo.model import build

MODEL = {
    "image_size": 32,
    "autoencoder": {"channels": (8, 16), "layers": 1, "codes": 16, "attention": False, "groups": 4},
    "unet": {"channels": (16, 32), "layers": 1, "attention": 1, "head_dim": 8, "groups": 8},
    "diffusion": {"prediction": "v_prediction"},
}


def parts(seed: int = 0, **changes):
    """(autoencoder, unet, scheduler) with random weights and codes as far apart as latents are."""
    torch.manual_seed(seed)
    autoencoder, unet, scheduler = build(LatentConfig(**{**MODEL, **changes}))
    with torch.no_grad():
        autoencoder.quantize.embedding.weight.normal_()
    return autoencoder, unet, scheduler


def folder_of(path, seed: int = 0, **changes):
    """A diffusers folder of such a model."""
    from tasks.pseudo.pretrain import save_parts

    path.mkdir(parents=True)
    save_parts(path, *parts(seed, **changes))
    return path


def config(**changes) -> PretrainConfig:
    return PretrainConfig(**{"model": MODEL, **changes})


def frames(n: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """`(n, height, width, 3)` uint8: a bright block on blocky noise that stands still, 2 px a frame to the right."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 120, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    made = np.repeat(ground[None], n, 0)
    for t, picture in enumerate(made):
        picture[16:32, (4 + 2 * t) % (width - 16) : (4 + 2 * t) % (width - 16) + 12] = 220
    return made


def write_video(path, n: int = 20, seed: int = 0, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(frames(n, seed=seed, **size), 10))
    return path
