"""Decoder, targets and errors of masked reconstruction (VideoMAE, Tong et al. 2022; TATS thesis, section 5.4, table 5.4, equation 5.6;
AdaMAE's public normalisation).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from tasks.core.nn.config import DecoderConfig, TargetConfig, VitConfig
from tasks.core.nn.precision import full_precision
from tasks.core.nn.vit import Block, Norm, cubes_at, init_linear, position_table, start_local


class PixelDecoder(nn.Module):
    """Projection, light decoder and pixel head.

    The decoder sees visible tokens first and mask tokens after them, each with its own position code; only the outputs at masked tokens are
    computed to pixels. Tokens that are neither visible nor masked take no part.

    Args:
        model: settings of the encoder.
        decoder: settings of the decoder.
        encoder: a network that belongs to it, the whole then being an autoencoder; None: it stands elsewhere.
    """

    def __init__(self, model: VitConfig, decoder: DecoderConfig, encoder: nn.Module | None = None):
        super().__init__()
        if encoder is not None:
            self.encoder = encoder
        width = model.widths()[0]
        dim = decoder.dim or width // 2
        heads = decoder.heads or max(1, dim // 64)
        self.proj = nn.Linear(width, dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("decoder_positions", position_table(model, dim), persistent=False)
        self.decoder = nn.ModuleList(Block(dim, heads, norm_eps=model.norm_eps) for _ in range(decoder.depth))
        self.decoder_norm = Norm(dim, eps=decoder.norm_eps)
        self.head = nn.Linear(dim, 3 * model.tubelet * model.patch**2)
        for part in (self.proj, self.decoder, self.head):
            part.apply(init_linear)
        if model.start == "local":
            start_local(self.decoder)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def decode(self, encoded: torch.Tensor, visible: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Predicts the pixels of masked tokens: `(B, n_masked, pixels*3)`, pixel-major, colour last.

        Args:
            encoded: `(B, k + n, dim)` encoded visible tokens, behind k tokens without a place in the video (a class token).
            visible: `(B, n)` int64 their numbers.
            masked: `(B, n_masked)` int64 numbers of the tokens to predict.
        """
        seen = self.proj(encoded)
        positions = self.decoder_positions.to(seen.dtype)
        hidden = self.mask_token.to(seen.dtype) + positions[masked]
        places = positions[visible]
        if placeless := seen.shape[1] - visible.shape[1]:
            places = F.pad(places, (0, 0, placeless, 0))
        x = torch.cat((seen + places, hidden), dim=1)
        *others, last = self.decoder
        for block in others:
            x = block(x)
        return self.head(self.decoder_norm(last(x, seen.shape[1])))


class ReconstructionLoss(nn.Module):
    """Reconstruction errors of masked tokens, float32 whatever the precision of the prediction.

    Args:
        tubelet: frames of a token.
        patch: side of a token, px.
        mean: of the normalisation of the video, per colour.
        std: of the same.
    """

    compile_region = True

    def __init__(self, target: TargetConfig, tubelet: int, patch: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.target, self.tubelet, self.patch = target, tubelet, patch
        self.register_buffer("mean", torch.tensor(mean).view(1, 1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 1, 3, 1, 1), persistent=False)

    def forward(self, video: torch.Tensor, masked: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Normalised video `(B, T, 3, S, S)`, masked tokens and their prediction `(B, n_masked, pixels*3)`, to `(B, n_masked)`."""
        with torch.autocast(video.device.type, enabled=False):
            target = masked_targets(video, masked, self.target, self.tubelet, self.patch, self.mean, self.std)
            return token_errors(prediction, target, self.target.loss)


EPS = 1e-6
"""Added to the standard deviation of levels in [0, 1]."""


def normalize_cubes(
    cubes: torch.Tensor, pixels_dim: int = 2, eps: torch.Tensor | float = EPS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per token and colour: `(v - mean) / (std + eps)` with the unbiased standard deviation.

    Args:
        cubes: `(B, n, pixels, C)` float32.
        pixels_dim: where the pixels are.
        eps: 1e-6 for levels in [0, 1].

    Returns:
        normalised cubes, mean `(B, n, 1, C)` and `std + eps` `(B, n, 1, C)`, with which a reconstruction can be brought back to pixels.
    """
    mean = cubes.mean(dim=pixels_dim, keepdim=True)
    centered = cubes - mean
    std = (centered.square().sum(pixels_dim, keepdim=True) / (cubes.shape[pixels_dim] - 1)).sqrt() + eps  # torch's var is slow
    return centered / std, mean, std


def masked_targets(
    video: torch.Tensor,
    masked: torch.Tensor,
    config: TargetConfig,
    tubelet: int,
    patch: int,
    mean: torch.Tensor | float = 0.0,
    std: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Targets `(B, n_masked, pixels*C)` float32 of the masked tokens `(B, n_masked)`, colour last.

    `motion` subtracts the clip's mean frame, so that the still background carries no error and only what moves is to be predicted.

    Args:
        video: `(B, T, C, H, W)`.
        mean, std: of its normalisation, `(1, 1, C, 1, 1)`; targets are made from levels in [0, 1].
    """
    video = full_precision(video)
    if config.kind == "motion":
        video, mean = video - video.mean(dim=1, keepdim=True), 0.0
    mean, std = (v.view(1, 1, -1, 1) if isinstance(v, torch.Tensor) else v for v in (mean, std))
    cubes = cubes_at(video.contiguous(), masked, tubelet, patch)
    if config.kind == "pixels" and config.normalize:
        return normalize_cubes(cubes, 3, EPS / std)[0].transpose(2, 3).flatten(2)  # as of levels: scale and shift cancel
    cubes = cubes * std + mean
    if config.normalize:
        cubes = normalize_motion(cubes)
    return cubes.transpose(2, 3).flatten(2)


def normalize_motion(cubes: torch.Tensor) -> torch.Tensor:
    """Scales motion targets by one standard deviation per clip (over all given tokens), so that still tokens stay near zero instead of
    becoming noise.
    """
    flat = cubes.flatten(1)
    std = ((flat - flat.mean(1, keepdim=True)).square().sum(1) / (flat.shape[1] - 1)).sqrt()[:, None, None, None]
    return cubes / (std + 1e-3)


def token_errors(prediction: torch.Tensor, target: torch.Tensor, loss: str) -> torch.Tensor:
    """Mean error of each token over its numbers: two `(B, n, d)` to `(B, n)`, in float32."""
    difference = full_precision(prediction) - target
    return difference.square().mean(-1) if loss == "mse" else difference.abs().mean(-1)


def take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows `index` `(B, n)` of `x` `(B, N, ...)`, giving `(B, n, ...)`."""
    shape = index.shape + (1,) * (x.ndim - 2)
    return x.gather(1, index.view(shape).expand(-1, -1, *x.shape[2:]))
