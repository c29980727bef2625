"""Settings of feature extraction. Imports no torch."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.audio.config import VGGISH, LogMelConfig
from tasks.core.config import Config


class ExtractConfig(Config):
    """`vid extract-features`."""

    model: str = Field(description="model folder, run folder or hf:// id of a model with an encoder of clips")
    per: Literal["video", "window"] = Field("video", description="one feature for a video, or one for each window of it")
    clips: int = Field(5, ge=1, le=1000, description="per video: clips spread over it, whose features are averaged")
    crops: Literal[1, 3, 10] = Field(
        1, description="squares of a clip that are averaged: the centre; three along the long side; corners and centre, mirrored too"
    )
    hop_s: float | None = Field(None, gt=0, description="per window: seconds from one to the next; null: each begins where one ends")
    format: Literal["npz", "npy", "h5"] = Field("npz", description="npy can be read in parts without being loaded; h5 needs h5py")
    dtype: Literal["float32", "float16"] = "float32"
    decoder: Literal["auto", "pyav", "decord"] = "auto"
    batch_size: int = Field(8, ge=1, description="clips that go through the network at once")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


class SoundConfig(Config):
    """`vid extract-features --audio`."""

    audio: Literal["logmel"] = Field("logmel", description="log-mel spectrogram, which needs no model")
    logmel: LogMelConfig = VGGISH
    hop_s: float | None = Field(
        None, gt=0, description="seconds from one feature to the next; null: span_s, or the step of the spectrogram"
    )
    span_s: float | None = Field(
        None, gt=0, description="the spectrogram's frames that begin within so many seconds are one feature, in a row; null: hop_s"
    )
    silence: bool = Field(False, description="a file without sound counts as silent for as long as its pictures last, not as an error")
    format: Literal["npz", "npy", "h5"] = Field("npz", description="npy can be read in parts without being loaded; h5 needs h5py")
    dtype: Literal["float32", "float16"] = "float32"

    @model_validator(mode="after")
    def _whole_frames(self):
        stride = self.logmel.stride_s
        for name, value in (("hop_s", self.hop_s), ("span_s", self.span_s)):
            frames = (value or stride) / stride
            if frames < 0.999 or abs(frames - round(frames)) > 1e-3:
                raise ValueError(
                    f"{name} {value:g} is not a multiple of {stride:g} s, the step of the spectrogram: give one that is, or logmel.hop_s"
                )
        return self

    @property
    def frames(self) -> int:
        """Frames of the spectrogram in a feature."""
        return round((self.span_s or self.hop_s or self.logmel.stride_s) / self.logmel.stride_s)

    @property
    def step(self) -> int:
        """Frames of the spectrogram from one feature to the next."""
        return round((self.hop_s or self.span_s or self.logmel.stride_s) / self.logmel.stride_s)


CONFIGS = {"extract": ExtractConfig, "sound": SoundConfig}
