"""Settings of training on features. Imports no torch."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tasks.core.config import Config

BATCH_KEYS = ("main", "features", "mask", "times", "length", "first", "label", "uid", "seed", "clip", "path", "skipped", "read_s")
"""What a batch holds beside further streams (`core.data.feature_loader.collate`)."""
_TAKEN = (*BATCH_KEYS, "segments", "segment_label")


class GridConfig(Config):
    """When the features of other programs are: feature i sees [offset + i * stride, offset + i * stride + span) of its video."""

    stride_s: float = Field(gt=0, description="seconds from one feature to the next")
    span_s: float = Field(ge=0, description="seconds that a feature sees")
    offset_s: float = Field(description="presentation time at which the first begins, seconds")


class StreamConfig(Config):
    """One folder of features. All but `folder` is for those that other programs wrote; ours say it in their `features.json`."""

    folder: str
    grid: GridConfig | None = None
    files: str | None = Field(None, description="how files are named, e.g. v_{name}_rgb.npy; null: {name}.npy, .npz or .h5")
    layout: Literal["nd", "dn"] = Field("nd", description="nd: a row per feature; dn: a column per feature")
    key: str | None = Field(None, description="the array in files that hold several; null: `features`, or the only one")
    encoder: str | None = Field(None, description="what made them, e.g. i3d-kinetics400; models that learn from them record it")


class FeatureConfig(Config):
    """Where features and what is said about them come from, and how they become batches.

    `train` and `val` are manifests, as in `data` of videos; the videos need not be there. The first stream sets the grid.
    """

    train: list[str] = Field(default_factory=list)
    val: list[str] = Field(default_factory=list)
    streams: dict[str, StreamConfig] = Field(default_factory=dict, description="name -> folder of features; e.g. visual, audio")
    align: Literal["none", "nearest", "linear"] = Field(
        "none", description="how further streams come to the grid of the first; none: their strides must be the same"
    )
    max_length: int | None = Field(None, ge=1, description="features of a random crop in training; null: all of them")
    test: Literal["whole", "windows"] = Field("whole", description="in testing: all features at once, or windows of max_length")
    overlap: float = Field(0.5, ge=0, lt=1, description="share of a window of `test: windows` that the next one sees again")
    pad: Literal["longest", "max_length"] = Field("longest", description="batches are as long as their longest item, or as max_length")
    multiple_of: int = Field(1, ge=1, description="batches are made longer until their length divides by this")
    repeats: int = Field(1, ge=1, description="crops taken from each item")
    preload: bool = Field(False, description="read everything once into shared memory before training")
    workers: int | None = Field(None, ge=0, description="loader processes; null: from the number of cores")

    @field_validator("streams")
    @classmethod
    def _named(cls, streams: dict[str, StreamConfig]) -> dict[str, StreamConfig]:
        for name in streams:
            if not name.isidentifier() or name in _TAKEN or name.endswith("_mask"):
                raise ValueError(f"a stream cannot have the name '{name}': choose a word such as visual, audio, flow")
        return streams

    @model_validator(mode="after")
    def _lengths(self):
        if self.max_length is None and (self.pad == "max_length" or self.test == "windows"):
            asked = "pad: max_length" if self.pad == "max_length" else "test: windows"
            raise ValueError(f"{asked} needs max_length, the number of features")
        return self
