"""One video as a model takes it, by the `preprocessing` of its config.json."""

from pathlib import Path
from typing import Any

import torch

from tasks.core.clips.augment import EvalTransform
from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig
from tasks.core.clips.loader import ClipDataset, collate
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError
from tasks.core.flow.flow import FLOW_SCALE


def read_views(path: str | Path, preprocessing: dict[str, Any], clips: int = 1, crops: int = 1) -> torch.Tensor:
    """The views of a video that multi-view testing takes: `(clips * crops, T, 3, S, S)` float32, normalised; crops of a clip are
    neighbours.

    Args:
        path: a file or a folder of pictures. clips: windows spread over the video. crops: 1, the centre square, or 3 along the long side.

    Raises:
        InputError: the video cannot be read.
    """
    data = DataConfig(clip=clip_of(preprocessing), short_side=short_side_of(preprocessing))
    sample = ClipDataset([Row(str(path))], data, None, "views", clips)[(0, 0)]
    if sample.skipped is not None:
        raise InputError(f"{path}: {sample.skipped}")
    return EvalTransform(squares_of(preprocessing), preprocessing["image_size"], crops)(collate([sample]))


def clip_of(preprocessing: dict[str, Any]) -> ClipConfig:
    """The frames of a clip: a stride in frames, where there is one, else in seconds."""
    stride = "stride_frames" if preprocessing["stride_frames"] else "stride_s"
    named = {name: preprocessing[name] for name in ("frames", "sampling", stride)}
    return ClipConfig(**named, stretch=preprocessing.get("stretch", False))


def short_side_of(preprocessing: dict[str, Any]) -> int | None:
    """Pictures are read with this short side, px; None: as they are."""
    if preprocessing["short_side"] or preprocessing["crop"] == "motion":  # motion is looked for where training looked for it
        return preprocessing["short_side"]
    return preprocessing["image_size"] * (1 if preprocessing.get("flow") is None else FLOW_SCALE)


def squares_of(preprocessing: dict[str, Any]) -> AugmentConfig:
    """How squares are cut, turned into flow and normalised."""
    named = {name: preprocessing[name] for name in ("crop", "motion_margin", "mean", "std")}
    return AugmentConfig(**named, flow=preprocessing.get("flow"))
