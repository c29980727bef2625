"""Log-mel spectrograms.

Frame i sees the samples i * hop <= k < i * hop + window and nothing else: there is no padding at the ends, so that what a frame says of
a moment does not depend on where the sound was cut. Whoever wants frames centred on a time begins half a window earlier.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from tasks.core.audio.config import VGGISH, LogMelConfig

SLANEY_BREAK_HZ, SLANEY_PER_MEL_HZ = 1000.0, 200.0 / 3
SLANEY_LOG_STEP = math.log(6.4) / 27


def to_mel(hertz: torch.Tensor, scale: str) -> torch.Tensor:
    """Mel of each frequency in Hz; scale `htk`: 2595 log10(1 + f / 700), or `slaney`: linear below 1 kHz, logarithmic above."""
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hertz / 700.0)
    high = SLANEY_BREAK_HZ / SLANEY_PER_MEL_HZ + torch.log(hertz.clamp_min(1e-9) / SLANEY_BREAK_HZ) / SLANEY_LOG_STEP
    return torch.where(hertz < SLANEY_BREAK_HZ, hertz / SLANEY_PER_MEL_HZ, high)


def to_hertz(mel: torch.Tensor, scale: str) -> torch.Tensor:
    """The inverse of `to_mel`."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    bend = SLANEY_BREAK_HZ / SLANEY_PER_MEL_HZ
    return torch.where(mel < bend, mel * SLANEY_PER_MEL_HZ, SLANEY_BREAK_HZ * torch.exp(SLANEY_LOG_STEP * (mel - bend)))


def mel_filters(config: LogMelConfig) -> torch.Tensor:
    """(points // 2 + 1, n_mels) float64: weights of the bins of the spectrum in each filter, triangles evenly spaced in mel."""
    ends = to_mel(torch.tensor([config.f_min, config.f_max], dtype=torch.float64), config.mel_scale)
    corners = torch.linspace(float(ends[0]), float(ends[1]), config.n_mels + 2, dtype=torch.float64)
    bins = torch.linspace(0, config.sample_rate / 2, config.points // 2 + 1, dtype=torch.float64)
    hertz = to_hertz(corners, config.mel_scale)
    if config.triangles == "mel":
        place, edges = to_mel(bins, config.mel_scale)[:, None], corners
    else:
        place, edges = bins[:, None], hertz
    rising = (place - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - place) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    return filters * (2.0 / (hertz[2:] - hertz[:-2])) if config.norm == "slaney" else filters


class LogMel(nn.Module):
    """Sound to log-mel frames.

    Args:
        config: see `LogMelConfig`.
    """

    def __init__(self, config: LogMelConfig = VGGISH):
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window, dtype=torch.float64).float(), persistent=False)
        self.register_buffer("filters", mel_filters(config).float(), persistent=False)

    def frames(self, n: int) -> int:
        """How many frames n samples give."""
        return max(0, 1 + (n - self.config.window) // self.config.hop)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """`(..., n)` float32 in [-1, 1] at the configuration's sample rate to `(..., frames(n), n_mels)` float32."""
        config = self.config
        if not self.frames(sound.shape[-1]):
            return sound.new_zeros(*sound.shape[:-1], 0, config.n_mels)
        windows = sound.unfold(-1, config.window, config.hop) * self.window
        spectrum = torch.fft.rfft(windows, n=config.points).abs()
        mel = (spectrum if config.power == 1 else spectrum.square()) @ self.filters
        mel = (mel + config.log_offset).clamp_min(config.log_floor)
        return mel.log() if config.log == "ln" else mel.log10() * (10.0 if config.log == "db" else 1.0)

    @torch.no_grad()
    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """Frames (m, n_mels) of sound that comes block by block; joined they are those of the whole, within rounding.

        Args:
            blocks: (n,) float32 each, as from `SoundReader.blocks`.
        """
        rest = torch.zeros(0, device=self.window.device)
        skip = 0  # samples still to come before the next frame begins, where a hop is longer than a window
        for block in blocks:
            sound = torch.cat([rest, torch.as_tensor(block, device=rest.device)])
            rest, skip = sound[skip:], max(0, skip - len(sound))
            n = self.frames(len(rest))
            if n:
                yield self(rest[: (n - 1) * self.config.hop + self.config.window])
                behind = n * self.config.hop
                rest, skip = rest[behind:], max(0, behind - len(rest))


def stack_patches(frames: torch.Tensor, length: int, step: int) -> torch.Tensor:
    """Patches of `length` frames that begin `step` frames apart: (n, n_mels) to (p, length, n_mels); what does not fill one is left out."""
    if len(frames) < length:
        return frames.new_zeros(0, length, frames.shape[1])
    return frames.unfold(0, length, step).transpose(1, 2).contiguous()
