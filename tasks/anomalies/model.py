"""The 3-D convolutional autoencoder of frames and of flow, A^s and A^t.

Source: thesis table 4.2; the decoder's first layer and the output paddings, which the table omits, from the public code of "Learning Not
to Reconstruct Anomalies" (Astrid et al. 2021), on which the thesis builds.
"""

import torch
from torch import nn

from tasks.anomalies.config import AutoencoderConfig

CHANNELS = (96, 128, 256, 256)
SLOPE = 0.2


class Autoencoder(nn.Module):
    """Four strided 3-D convolutions and four transposed ones, each but the last with batch norm and LeakyReLU(0.2), Tanh at the end.

    5,991,171 parameters at width 1. The narrowest map of 16 x 256 x 256 is 2 x 16 x 16 of 256 channels.
    """

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        a, b, c, d = (max(1, round(channels * config.width)) for channels in CHANNELS)
        self.encoder = nn.Sequential(*_down(3, a, (1, 2, 2)), *_down(a, b), *_down(b, c), *_down(c, d))
        last = nn.ConvTranspose3d(a, 3, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 1))
        self.decoder = nn.Sequential(*_up(d, c), *_up(c, b), *_up(b, a), last, nn.Tanh())

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """`(B, 3, T, S, S)` in [-1, 1] to its reconstruction, same shape and range; T a multiple of 8, S of 16."""
        return self.decoder(self.encoder(clip.contiguous(memory_format=torch.channels_last_3d)))  # a quarter faster


def _down(inside: int, out: int, stride: tuple[int, int, int] = (2, 2, 2)) -> list[nn.Module]:
    return [nn.Conv3d(inside, out, 3, stride=stride, padding=1), nn.BatchNorm3d(out), nn.LeakyReLU(SLOPE, inplace=True)]


def _up(inside: int, out: int) -> list[nn.Module]:
    layer = nn.ConvTranspose3d(inside, out, 3, stride=2, padding=1, output_padding=1)
    return [layer, nn.BatchNorm3d(out), nn.LeakyReLU(SLOPE, inplace=True)]
