"""One video as a model takes it, by the `preprocessing` of its config.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.core.clips.augment import EvalTransform
from tasks.core.clips.config import AugmentConfig, ClipConfig, DataConfig, FlowInput
from tasks.core.clips.flow_source import FlowSource
from tasks.core.clips.loader import ClipDataset, collate
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError, UsageError
from tasks.core.flow.flow import FLOW_SCALE
from tasks.core.video.reader import VideoReader


def read_views(path: str | Path, preprocessing: dict[str, Any], clips: int = 1, crops: int = 1) -> torch.Tensor:
    """The views of a video that multi-view testing takes: `(clips * crops, T, 3, S, S)` float32, normalised; crops of a clip are
    neighbours.

    Args:
        path: a file or a folder of pictures. clips: windows spread over the video. crops: 1, the centre square, or 3 along the long side.

    Raises:
        InputError: the video cannot be read.
    """
    data = DataConfig(clip=clip_of(preprocessing), short_side=short_side_of(preprocessing), flow=flow_of(preprocessing))
    sample = ClipDataset([Row(str(path))], data, None, "views", clips)[(0, 0)]
    if sample.skipped is not None:
        raise InputError(f"{path}: {sample.skipped}")
    return EvalTransform(squares_of(preprocessing), preprocessing["image_size"], crops)(collate([sample]))


def clip_of(preprocessing: dict[str, Any]) -> ClipConfig:
    """The frames of a clip: a stride in frames, where there is one, else in seconds."""
    stride = "stride_frames" if preprocessing["stride_frames"] else "stride_s"
    named = {name: preprocessing[name] for name in ("frames", "sampling", stride)}
    return ClipConfig(**named, stretch=preprocessing.get("stretch", False))


def flow_of(preprocessing: dict[str, Any]) -> FlowInput | None:
    """The flow that a model takes, computed as it was for its training; None where it takes frames alone."""
    return FlowInput(**preprocessing["flow_input"]) if preprocessing.get("flow_input") else None


def flow_input(config: FlowInput | None) -> dict[str, Any] | None:
    """What `flow_of` reads, for the `preprocessing` of a model trained with `data.flow`: where its folder lay is left out.

    Raises:
        UsageError: the folder holds no flow.
    """
    if config is None:
        return None
    settings = FlowSource(config).settings.model_dump(mode="json")
    return {"compute": settings, "frames": config.frames, "channels": config.channels}


def flow_for_model(given: FlowInput | None, preprocessing: dict[str, Any]) -> FlowInput | None:
    """`data.flow` for testing a model: as given, for example from a folder, else as the model has it.

    Raises:
        UsageError: what is given is not what the model was trained with.
    """
    found, wanted = flow_input(given), preprocessing.get("flow_input")
    if given is not None and found != wanted:
        raise UsageError(f"the model was trained with {_in_words(wanted)}, and data.flow gives {_in_words(found)}", "leave data.flow out")
    return given or flow_of(preprocessing)


def _in_words(flow: dict[str, Any] | None) -> str:
    if flow is None:
        return "frames alone"
    settings = ", ".join(f"{key} {value}" for key, value in flow["compute"].items())
    return f"{'frames and ' if flow['frames'] else ''}flow of {flow['channels']} channels ({settings})"


def read_pictures(reader: VideoReader, numbers: Sequence[int], preprocessing: dict[str, Any]) -> np.ndarray:
    """Frames of an open video as a model takes them, before they are cut: `(T, H, W, C)` uint8, colours or flow. Raises VideoError."""
    flow = flow_of(preprocessing)
    if flow is None or flow.frames:
        return reader.get(numbers, short_side_of(preprocessing))
    return FlowSource(flow).pictures(reader, reader.path, np.asarray(numbers))


def modality_of(preprocessing: dict[str, Any]) -> str:
    """What `read_pictures` gives: `rgb` or `flow`."""
    flow = flow_of(preprocessing)
    return "rgb" if flow is None or flow.frames else "flow"


def short_side_of(preprocessing: dict[str, Any]) -> int | None:
    """Pictures are read with this short side, px; None: as they are."""
    if preprocessing["short_side"] or preprocessing["crop"] == "motion":  # motion is looked for where training looked for it
        return preprocessing["short_side"]
    return preprocessing["image_size"] * (1 if preprocessing.get("flow") is None else FLOW_SCALE)


def squares_of(preprocessing: dict[str, Any]) -> AugmentConfig:
    """How squares are cut, turned into flow and normalised."""
    named = {name: preprocessing[name] for name in ("crop", "motion_margin", "mean", "std")}
    return AugmentConfig(**named, flow=preprocessing.get("flow"))
