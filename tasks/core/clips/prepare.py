"""One video as a model takes it, by the `preprocessing` of its config.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from tasks.core.clips.augment import EvalTransform, TrainTransform
from tasks.core.clips.config import AugmentConfig, BoxInput, ClipConfig, DataConfig, FlowInput
from tasks.core.clips.eval_transform import TEN_CROPS_SIDE
from tasks.core.clips.flow_source import FlowSource
from tasks.core.clips.loader import ClipDataset, collate
from tasks.core.data.manifest import Row
from tasks.core.errors import InputError, UsageError
from tasks.core.flow.flow import FLOW_SCALE
from tasks.core.video.reader import VideoReader, scaled_size


def read_views(path: str | Path, preprocessing: dict[str, Any], clips: int = 1, crops: int = 1) -> torch.Tensor:
    """The views of a video that multi-view testing takes: `(clips * crops, T, 3, S, S)` float32, normalised; crops of a clip are
    neighbours.

    Args:
        path: a file or a folder of pictures.
        clips: windows spread over the video.
        crops: 1, the centre square, 3 along the long side, or 10.

    Raises:
        InputError: the video cannot be read.
    """
    return read_streams(path, preprocessing, clips, crops)["video"]


def read_streams(path: str | Path, preprocessing: dict[str, Any], clips: int = 1, crops: int = 1) -> dict[str, torch.Tensor]:
    """`video`, as `read_views`, and for a model that looks at them `boxes`, `(clips * crops, T, 4)` float32 px of the views; arguments and
    errors as there.
    """
    transform = view_transform(preprocessing, crops)
    read = {"short_side": short_side_of(preprocessing, crops), "flow": flow_of(preprocessing), "boxes": boxes_of(preprocessing)}
    sample = ClipDataset([Row(str(path))], DataConfig(clip=clip_of(preprocessing), **read), None, "views", clips)[(0, 0)]
    if sample.skipped is not None:
        raise InputError(f"{path}: {sample.skipped}")
    return transform.streams(collate([sample]))


def prepare_frames(frames: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
    """Frames of a clip, `(T, H, W, 3)` uint8 RGB, as a model takes them: `(1, T, 3, S, S)` float32, normalised.

    They are scaled to the short side that the model's videos were read with, then cut as in testing with one view.
    """
    clip = frames.permute(0, 3, 1, 2)
    if preprocessing.get("short_side"):
        size = scaled_size(*clip.shape[-2:], preprocessing["short_side"])
        clip = F.resize(clip, list(size), antialias=True)
    size, seed = torch.tensor([clip.shape[-2:]], dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return view_transform(preprocessing)({"video": clip[None], "size": size, "seed": seed})


def view_transform(preprocessing: dict[str, Any], crops: int = 1) -> TrainTransform | EvalTransform:
    """From a batch of the loader to the views of its clips, `(N * crops, T, 3, S, S)` float32; UsageError where a model has no such views.

    `crop: none` is the whole frame squeezed to the square. `resample` says how frames are scaled where it is not bilinear.
    """
    augment, size = squares_of(preprocessing), preprocessing["image_size"]
    check_crops(augment.crop, crops)
    if augment.crop == "none":
        return TrainTransform(augment, size)
    return EvalTransform(augment, size, crops, preprocessing.get("resample", "bilinear"))


def check_crops(crop: str, crops: int) -> None:
    """UsageError where a way to cut squares, `AugmentConfig.crop`, does not give so many of a clip."""
    if crop == "none" and crops != 1:
        raise UsageError(f"the model sees whole frames, squeezed to a square: there are no {crops} crops of them", "use 1 crop")
    if crop == "motion" and crops == 10:
        raise UsageError("the model sees the square around what moves: it has no corners for 10 crops", "use 1 or 3 crops")


def clip_of(preprocessing: dict[str, Any]) -> ClipConfig:
    """The frames of a clip: a stride in frames, where there is one, else in seconds."""
    stride = "stride_frames" if preprocessing.get("stride_frames") else "stride_s"
    sampling, stretch = preprocessing.get("sampling", "dense"), preprocessing.get("stretch", False)
    return ClipConfig(frames=preprocessing["frames"], sampling=sampling, stretch=stretch, **{stride: preprocessing.get(stride)})


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


def boxes_of(preprocessing: dict[str, Any]) -> BoxInput | None:
    """The boxes that a model looks at, found as its folder says; None where it looks at none."""
    return BoxInput(**preprocessing["boxes"]) if preprocessing.get("boxes") else None


def boxes_input(config: BoxInput | None) -> dict[str, Any]:
    """`boxes`, what `boxes_of` reads, for the `preprocessing` of a model trained with `data.boxes`: a file of them is left out. Empty for
    one that looks at none.
    """
    return {} if config is None else {"boxes": config.model_dump(mode="json", exclude={"file"})}


def boxes_for_model(given: BoxInput | None, preprocessing: dict[str, Any]) -> BoxInput | None:
    """`data.boxes` for testing a model: as the model has it, but from the file that is given.

    Raises:
        UsageError: boxes are given, other than a file, or to a model that looks at none.
    """
    own = boxes_of(preprocessing)
    if given is None:
        return own
    if own is None:
        raise UsageError("the model does not look at boxes", "leave data.boxes out")
    if given != BoxInput(file=given.file):
        raise UsageError("how boxes are found is a part of the model", "leave data.boxes out, or give only a file: data.boxes=FILE")
    return own.model_copy(update={"file": given.file})


def _in_words(flow: dict[str, Any] | None) -> str:
    if flow is None:
        return "frames alone"
    settings = ", ".join(f"{key} {value}" for key, value in flow["compute"].items())
    return f"{'frames and ' if flow['frames'] else ''}flow of {flow['channels']} channels ({settings})"


def read_pictures(reader: VideoReader, numbers: Sequence[int], preprocessing: dict[str, Any], crops: int = 1) -> np.ndarray:
    """Frames of an open video as a model takes them, before they are cut into so many crops: `(T, H, W, C)` uint8, colours or flow.

    Raises:
        VideoError: the video cannot be decoded.
    """
    flow = flow_of(preprocessing)
    if flow is None or flow.frames:
        return reader.get(numbers, short_side_of(preprocessing, crops))
    return FlowSource(flow).pictures(reader, reader.path, np.asarray(numbers))


def modality_of(preprocessing: dict[str, Any]) -> str:
    """What `read_pictures` gives: `rgb` or `flow`."""
    flow = flow_of(preprocessing)
    return "rgb" if flow is None or flow.frames else "flow"


def short_side_of(preprocessing: dict[str, Any], crops: int = 1) -> int | None:
    """Pictures are read with this short side, px; None: as they are."""
    told = preprocessing.get("short_side")
    if preprocessing.get("resample"):  # by the model's own way of scaling, not the reader's
        return told
    if told or preprocessing.get("crop") in ("motion", "none"):  # motion is looked for where training looked for it
        return told
    side = preprocessing["image_size"] * (1 if preprocessing.get("flow") is None else FLOW_SCALE)
    return round(side * TEN_CROPS_SIDE) if crops == 10 else side


def squares_of(preprocessing: dict[str, Any]) -> AugmentConfig:
    """How squares are cut, turned into flow and normalised."""
    optional = {name: preprocessing[name] for name in ("crop", "motion_margin", "flow") if name in preprocessing}
    return AugmentConfig(**{"crop": "center", **optional}, mean=preprocessing["mean"], std=preprocessing["std"])
