"""The masked autoencoder: encoder on visible tokens, light decoder on all of them.

Source: VideoMAE (Tong et al. 2022); TATS thesis, section 5.4 and table 5.4.
"""

import torch
from torch import nn

from tasks.core.nn.config import VitConfig
from tasks.core.nn.vit import Block, Norm, TubeletEmbed, VideoTransformer, init_linear, position_table, start_local
from tasks.masked.config import DecoderConfig


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


class MaskedAutoencoder(nn.Module):
    """Encoder, projection, decoder and pixel head.

    The decoder sees visible tokens first and mask tokens after them, each with its own position code; only the outputs at masked tokens are
    computed to pixels.
    """

    def __init__(self, model: VitConfig, decoder: DecoderConfig):
        super().__init__()
        self.encoder = VideoTransformer(model)
        width = self.encoder.dim
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

    @property
    def embed(self) -> TubeletEmbed:
        """The tokenizer."""
        return self.encoder.embed

    def encode(self, tokens: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """`(B, n, dim)` embedded visible tokens without positions, and their indices `(B, n)`, to encoded tokens `(B, n, dim)`."""
        return self.encoder.run_blocks(tokens + self.encoder.positions[visible].to(tokens.dtype))

    def decode(self, encoded: torch.Tensor, visible: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Predicts the pixels of masked tokens: `(B, n_masked, tubelet*patch*patch*3)`, pixel-major, colour last."""
        seen = self.proj(encoded)
        positions = self.decoder_positions.to(seen.dtype)
        hidden = self.mask_token.to(seen.dtype) + positions[masked]
        x = torch.cat((seen + positions[visible], hidden), dim=1)
        *others, last = self.decoder
        for block in others:
            x = block(x)
        return self.head(self.decoder_norm(last(x, visible.shape[1])))
