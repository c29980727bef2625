"""The masked autoencoder: encoder on visible tokens, light decoder on all of them (`core.nn.masked`).

Source: VideoMAE (Tong et al. 2022); TATS thesis, section 5.4 and table 5.4.
"""

import torch

from tasks.core.nn.config import DecoderConfig, VitConfig
from tasks.core.nn.masked import PixelDecoder
from tasks.core.nn.vit import TubeletEmbed, VideoTransformer


def patchify(video: torch.Tensor, tubelet: int, patch: int) -> torch.Tensor:
    """`(B, T, C, H, W)` to `(B, N, tubelet*patch*patch, C)`: the pixels of each token, time-major tokens."""
    b, t, c, h, w = video.shape
    x = video.reshape(b, t // tubelet, tubelet, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 1, 4, 6, 2, 5, 7, 3).reshape(b, -1, tubelet * patch * patch, c)


def unpatchify(cubes: torch.Tensor, grid: tuple[int, int, int], tubelet: int, patch: int) -> torch.Tensor:
    """Inverse of `patchify`: `(B, N, tubelet*patch*patch, C)` to `(B, T, C, H, W)`."""
    b, _, _, c = cubes.shape
    t, h, w = grid
    x = cubes.reshape(b, t, h, w, tubelet, patch, patch, c)
    return x.permute(0, 1, 4, 7, 2, 5, 3, 6).reshape(b, t * tubelet, c, h * patch, w * patch)


class MaskedAutoencoder(PixelDecoder):
    """An encoder and the decoder that reconstructs what it was not shown."""

    def __init__(self, model: VitConfig, decoder: DecoderConfig):
        super().__init__(model, decoder, VideoTransformer(model))

    @property
    def embed(self) -> TubeletEmbed:
        """The tokenizer."""
        return self.encoder.embed

    def encode(self, tokens: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """`(B, n, dim)` embedded visible tokens without positions, and their indices `(B, n)`, to encoded tokens `(B, n, dim)`."""
        return self.encoder.run_blocks(tokens + self.encoder.positions[visible].to(tokens.dtype))
