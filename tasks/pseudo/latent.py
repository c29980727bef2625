"""Inpainting by latent diffusion: a model folder read, and frames filled with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.core.checkpoint import bounded_by
from tasks.core.errors import UsageError
from tasks.pseudo.config import LATENT_CHANNELS
from tasks.pseudo.model import condition, sample

INDEX = "model_index.json"
TAKES = "--model takes a run of pseudo/ldm-inpaint-*, a folder of a diffusers inpainting pipeline, or hf://org/repo"
DEFAULT_SIZE = 256
"""Side of the squares that the CompVis release works on, and the thesis with it."""


class LatentInpainter:
    """Fills holes with a 7-channel latent diffusion model.

    Frames are brought to the size at which the model works and the fill is brought back, so that outside the hole nothing is lost.

    Args:
        autoencoder, unet, scheduler: VQModel, UNet2DModel or UNet2DConditionModel, DDIMScheduler.
        steps: of DDIM.
        size: side of the square the model sees, px; None: the frame's own shape at `short_side` px.
        short_side: None: as it is.
        dtype: of the networks' arithmetic where it matters for speed (autocast); their weights stay fp32.
    """

    def __init__(
        self,
        autoencoder: Any,
        unet: Any,
        scheduler: Any,
        device: torch.device,
        steps: int = 50,
        size: int | None = DEFAULT_SIZE,
        short_side: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        self.autoencoder, self.unet = (part.to(device).eval().requires_grad_(False) for part in (autoencoder, unet))
        self.scheduler, self.device, self.dtype = scheduler, device, dtype
        self.steps, self.size, self.short_side = steps, size, short_side
        self.shrink = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        self.multiple = self.shrink * 2 ** (len(unet.config.block_out_channels) - 1)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the model sees a frame: multiples of what its levels need."""
        if self.size is not None:
            height = width = self.size
        elif self.short_side is not None:
            scale = self.short_side / min(height, width)
            height, width = height * scale, width * scale
        return tuple(max(1, round(side / self.multiple)) * self.multiple for side in (height, width))

    @torch.no_grad()
    def fill(self, frames: np.ndarray, masks: np.ndarray, seeds: list[int]) -> np.ndarray:
        """See `inpaint.Filler`. In another batch, arithmetic may differ in the last bits; the noise does not."""
        height, width = frames.shape[1:3]
        pictures = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        holes = torch.from_numpy(masks).to(self.device)[:, None].float()
        pictures, holes = resized(pictures, holes, self.working_size(height, width))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            known = condition(lambda x: self.autoencoder.encode(x).latents.float(), pictures, holes)
            noise = noise_of(seeds, (LATENT_CHANNELS, *known.shape[-2:])).to(self.device)
            latents = sample(self.unet, self.scheduler, known, noise, self.steps)
            decoded = self.autoencoder.decode(latents).sample.float()
        if decoded.shape[-2:] != (height, width):
            decoded = F.interpolate(decoded, (height, width), mode="bicubic", antialias=True)
        levels = decoded.clamp(-1, 1).add(1).mul(127.5).round().byte()
        return levels.permute(0, 2, 3, 1).cpu().numpy()


def resized(pictures: Tensor, holes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pictures `(B, 3, H, W)` and holes `(B, 1, H, W)` at another size.

    A pixel into which any hole falls is a hole, so that nothing of what stood there reaches the model.
    """
    if pictures.shape[-2:] == size:
        return pictures, holes
    covering = F.adaptive_max_pool2d(holes, [min(a, b) for a, b in zip(holes.shape[-2:], size, strict=True)])
    covering = F.interpolate(covering, size, mode="nearest")
    edge = (F.interpolate(holes, size, mode="bilinear", antialias=True) > 0).float()
    return F.interpolate(pictures, size, mode="bilinear", antialias=True), torch.maximum(covering, edge)


def noise_of(seeds: list[int], shape: tuple[int, ...]) -> Tensor:
    """`(N, *shape)` float32 standard normal on the CPU, row i from seed i: the same on every device and in every batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def is_latent_folder(index: dict[str, Any]) -> bool:
    """Whether a `model_index.json` describes a VQ autoencoder with a UNet and no text."""
    return "vqvae" in index and "unet" in index


def read_index(folder: Path) -> dict[str, Any]:
    """The `model_index.json` of a diffusers folder; UsageError where there is none."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if not isinstance(index, dict):
            raise ValueError("not a mapping")
        return index
    except FileNotFoundError:
        raise UsageError(f"{folder} is not an inpainting model: it has no {INDEX}", TAKES) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{folder / INDEX} cannot be read: {str(error).splitlines()[0]}") from None


def load_parts(folder: Path) -> tuple[Any, Any, Any]:
    """(VQModel, UNet, DDIMScheduler) of a diffusers folder; every tensor has to fit. UsageError otherwise."""
    from diffusers import DDIMScheduler, UNet2DConditionModel, UNet2DModel, VQModel

    try:
        name = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8")).get("_class_name")
        scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: not a whole latent inpainting model ({str(error).splitlines()[0]})") from None
    autoencoder = _part(VQModel, folder, "vqvae")
    unet = _part(UNet2DConditionModel if name == "UNet2DConditionModel" else UNet2DModel, folder, "unet")
    latent = autoencoder.config.latent_channels
    channels = unet.config.in_channels, unet.config.out_channels
    if latent != LATENT_CHANNELS or channels != (2 * latent + 1, latent):
        raise UsageError(f"{folder}: not a 7-channel inpainting model: latent of {latent}, UNet from {channels[0]} to {channels[1]}")
    return autoencoder, unet, scheduler


def _part(kind: Any, folder: Path, name: str) -> Any:
    if not any((folder / name).glob("*.safetensors")):
        raise UsageError(f"{folder / name} holds no weights as safetensors, and no others are read")
    try:
        with bounded_by(folder / name):
            part, told = kind.from_pretrained(folder, subfolder=name, use_safetensors=True, output_loading_info=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{folder / name} cannot be read: {str(error).splitlines()[0]}") from None
    wrong = [f"{what.split('_')[0]} {key}" for what in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in told[what]]
    if wrong:
        raise UsageError(f"the weights in {folder / name} do not fit: {'; '.join(map(str, wrong[:5]))}")
    return part
