"""Settings of random changes of features in training. Imports no torch."""

from pydantic import Field

from tasks.core.config import Config


class VariationConfig(Config):
    """What is changed at random in training; by default nothing. What must know the channels is done to features of this suite alone."""

    swap: float = Field(0.0, ge=0, le=1, description="probability: the columns of the picture change places")
    mirror: float = Field(0.0, ge=0, le=1, description="probability, for each column: it is mirrored")
    fade: float = Field(0.0, ge=0, description="visual features are multiplied by up to 1 + this, or divided by it, for each column")
    stretch: float = Field(1.0, ge=1, description="time runs up to so many times as fast or slow")
    gain_db: float = Field(0.0, ge=0, description="the sound gets louder or softer by up to this")
    tilt_db: float = Field(0.0, ge=0, description="its highest channel does so against its middle, its lowest the other way")
    mel_shift: int = Field(0, ge=0, description="its spectrum moves up or down by up to so many channels")
    mel_masks: int = Field(0, ge=0, description="stretches of channels that are silenced (SpecAugment)")
    mel_mask: int = Field(0, ge=0, description="their length at most")
    gaps: int = Field(0, ge=0, description="stretches of time that are silenced (SpecAugment)")
    gap: int = Field(0, ge=0, description="their length at most, features")
    dub: float = Field(0.0, ge=0, le=1, description="probability, for each event: its sound is that of another event of the batch")
    dub_same: float = Field(0.5, ge=0, le=1, description="probability that this one is of its class; otherwise of any")
