"""Settings of feature extraction. Imports no torch."""

from typing import Literal

from pydantic import Field, model_validator

from tasks.core.audio.config import VGGISH, LogMelConfig
from tasks.core.config import Config


class ExtractConfig(Config):
    """`vid extract-features`."""

    model: str = Field(description="model folder, run folder or hf:// id of a model with an encoder of clips, or a CLIP model")
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
    pool: Literal["stack", "moments"] = Field(
        "stack", description="the spectrogram's frames of a feature: side by side, or the mean and the standard deviation of each channel"
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


POSTURE_CELLS, REPEAT_CELLS = 8, 2
REPEAT_LAGS = (1, 2, 3, 4, 6, 8)
"""Pairs of pictures after which motion is compared with itself, in a context."""


class MotionConfig(Config):
    """What moves where in which direction, without a model: histograms of optical flow around whatever moves."""

    hop_s: float = Field(0.2, gt=0, description="seconds from one feature to the next")
    rate_hz: float = Field(10.0, gt=0, le=120, description="pictures looked at in a second; flow is from each to the next")
    columns: int = Field(1, ge=1, le=16, description="the picture is cut into so many equal columns, each seen on its own, side by side")
    short_side: int = Field(120, ge=16, description="pictures are scaled to this, px")
    side_px: int = Field(80, ge=16, description="of the square around what moves, after scaling")
    around: float = Field(1.4, gt=0, description="the square's size, two standard deviations of the motion to each side being 1")
    cells: int = Field(4, ge=1, description="the square is divided into cells x cells")
    directions: int = Field(8, ge=2, multiple_of=2, description="of motion that are told apart")
    context_s: float | None = Field(
        None,
        gt=0,
        description="a feature says how something moves in so many seconds around it: directions, posture and repetition, whatever their"
        " amount; null: the directions of its hop, as fast as they are",
    )
    block_s: float = Field(60.0, gt=0, description="how long the square stays where it is: a longer video gets a new one for each block")
    format: Literal["npz", "npy", "h5"] = Field("npz", description="npy can be read in parts without being loaded; h5 needs h5py")
    dtype: Literal["float32", "float16"] = "float32"
    decoder: Literal["auto", "pyav", "decord"] = "auto"

    @model_validator(mode="after")
    def _whole(self):
        pairs = self.hop_s * self.rate_hz
        if pairs < 0.999 or abs(pairs - round(pairs)) > 1e-3:
            raise ValueError(f"hop_s {self.hop_s:g} is not a multiple of the {1 / self.rate_hz:g} s between two pictures")
        if self.context_s is not None and self.side_px % (POSTURE_CELLS * REPEAT_CELLS):
            raise ValueError(f"side_px {self.side_px} does not divide by {POSTURE_CELLS * REPEAT_CELLS}, which context_s needs")
        if self.side_px % self.cells:
            raise ValueError(f"side_px {self.side_px} does not divide by cells {self.cells}")
        return self

    @property
    def around_hops(self) -> int:
        """Features before and after a feature whose directions are in it."""
        return 0 if self.context_s is None else round((self.context_s / self.hop_s - 1) / 2)

    @property
    def pairs(self) -> int:
        """Pairs of pictures in a feature."""
        return round(self.hop_s * self.rate_hz)

    @property
    def dim(self) -> int:
        """Channels of a feature."""
        gesture = 0 if self.context_s is None else POSTURE_CELLS**2 + len(REPEAT_LAGS) * REPEAT_CELLS**2 * 2
        return self.columns * (self.cells**2 * self.directions + gesture + 3)


CONFIGS = {"extract": ExtractConfig, "sound": SoundConfig}
