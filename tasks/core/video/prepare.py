"""One video as a model takes it, by the `preprocessing` of its config.json."""

from pathlib import Path
from typing import Any

import torch

from tasks.core.errors import InputError
from tasks.core.video.augment import EvalTransform
from tasks.core.video.config import AugmentConfig, ClipConfig, DataConfig
from tasks.core.video.loader import ClipDataset, collate
from tasks.core.video.manifest import Row


def read_views(path: str | Path, preprocessing: dict[str, Any], clips: int = 1, crops: int = 1) -> torch.Tensor:
    """The views of a video that multi-view testing takes: `(clips * crops, T, 3, S, S)` float32, normalised; crops of a clip are
    neighbours.

    Args:
        path: a file or a folder of pictures. clips: windows spread over the video. crops: 1, the centre square, or 3 along the long side.

    Raises:
        InputError: the video cannot be read.
    """
    found = preprocessing
    stride = {"stride_frames": found["stride_frames"]} if found["stride_frames"] else {"stride_s": found["stride_s"]}
    clip = ClipConfig(frames=found["frames"], sampling=found["sampling"], **stride)
    data = DataConfig(clip=clip, short_side=found["short_side"] or found["image_size"])
    sample = ClipDataset([Row(str(path))], data, None, "views", clips)[(0, 0)]
    if sample.skipped is not None:
        raise InputError(f"{path}: {sample.skipped}")
    augment = AugmentConfig(**{key: found[key] for key in ("crop", "motion_margin", "mean", "std")})
    return EvalTransform(augment, found["image_size"], crops)(collate([sample]))
