"""Settings of what makes the features of a run before it trains. Imports no torch."""

from typing import Literal

from tasks.core.towers.config import ExtractConfig, MotionConfig, SoundConfig


class MotionTower(MotionConfig):
    """Histograms of motion, which need no model."""

    kind: Literal["motion"] = "motion"


class EncoderTower(ExtractConfig):
    """What an encoder of clips says of each window."""

    kind: Literal["encoder"] = "encoder"
    per: Literal["window"] = "window"


class SoundTower(SoundConfig):
    """Log-mel spectrograms; a video without sound is silent."""

    kind: Literal["sound"] = "sound"
    silence: bool = True
