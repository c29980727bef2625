"""Settings of log-mel spectrograms. Imports no torch."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.config import Config


class LogMelConfig(Config):
    """How sound becomes a log-mel spectrogram. The defaults are those of VGGish (Hershey et al., ICASSP 2017, and its public code)."""

    sample_rate: int = Field(16_000, ge=1_000, le=192_000, description="the sound is brought to this rate, Hz")
    window_s: float = Field(0.025, gt=0, le=1, description="length of the periodic Hann window")
    hop_s: float = Field(0.010, gt=0, le=60, description="from one frame to the next")
    n_fft: int | None = Field(None, ge=2, description="points of the Fourier transform; null: the next power of two")
    n_mels: int = Field(64, ge=1, le=1024)
    f_min: float = Field(125.0, ge=0, description="where the lowest filter begins, Hz")
    f_max: float = Field(7_500.0, gt=0, description="where the highest filter ends, Hz")
    mel_scale: Literal["htk", "slaney"] = Field("htk", description="slaney: linear below 1 kHz (Auditory Toolbox, librosa)")
    triangles: Literal["mel", "hz"] = Field(
        "mel", description="filters whose sides are straight in mel (VGGish, HTK) or in Hz (torchaudio, librosa)"
    )
    norm: Literal["none", "slaney"] = Field("none", description="slaney: filters of equal area instead of equal height")
    power: Literal[1, 2] = Field(1, description="of the magnitude of the spectrum, before the filters")
    log: Literal["ln", "log10", "db"] = Field("ln", description="db: 10 log10")
    log_offset: float = Field(0.01, ge=0, description="added before the logarithm")
    log_floor: float = Field(1e-10, gt=0, description="what is below counts as this before the logarithm")

    @model_validator(mode="after")
    def _fits(self):
        if self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min:g} is not below f_max {self.f_max:g}")
        if self.f_max > self.sample_rate / 2:
            raise ValueError(f"f_max {self.f_max:g} is above half the sample rate {self.sample_rate}: give f_max={self.sample_rate / 2:g}")
        if self.hop < 1 or self.window < 2:
            raise ValueError("window_s or hop_s is shorter than a sample")
        if self.points < self.window:
            raise ValueError(f"n_fft {self.points} is less than the window of {self.window} samples")
        return self

    @property
    def window(self) -> int:
        """Samples in a window."""
        return round(self.window_s * self.sample_rate)

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_s * self.sample_rate)

    @property
    def points(self) -> int:
        """Points of the Fourier transform."""
        return self.n_fft or 1 << (self.window - 1).bit_length()

    @property
    def stride_s(self) -> float:
        """Seconds from one frame to the next, whole samples."""
        return self.hop / self.sample_rate

    @property
    def span_s(self) -> float:
        """Seconds of sound that one frame sees, whole samples."""
        return self.window / self.sample_rate


VGGISH = LogMelConfig()
VGGISH_PATCH_S = 0.96
"""Length of a patch, 96 frames, and distance of patches in VGGish."""
