"""Two streams of a clip, its frames and their flow as pictures: how flow follows what is done to the frames."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from tasks.core.clips.config import AugmentConfig
from tasks.core.errors import UsageError


def is_flow(batch: dict[str, Any]) -> bool:
    """Whether the `video` of a batch holds flow."""
    return batch.get("modality") == "flow"


def check_streams(batch: dict[str, Any], augment: AugmentConfig) -> None:
    """UsageError where settings do not go with the flow in a batch."""
    flow = batch["video"] if is_flow(batch) else batch.get("flow")
    if flow is None:
        return
    if augment.flow:
        raise UsageError("augment.flow makes flow of colours, and data.flow reads it", "set one of the two to null")
    if is_flow(batch) and augment.crop == "motion":
        raise UsageError(
            "augment.crop=motion looks for motion in colours, which are not read", "choose another crop, or data.flow.frames=true"
        )
    if augment.randaugment:
        raise UsageError("augment.randaugment turns and shears pictures, not the flow in them", "set it to null")
    if flow.shape[2] == 2 and augment.color_flow and (augment.color or augment.gray):
        raise UsageError(
            "augment.color_flow needs pictures of three channels", "set data.flow.channels to 3, or augment.color_flow to false"
        )


def flow_at_frame_size(batch: dict[str, Any]) -> Tensor:
    """The flow of a batch in pictures as large as its frames, so that the same boxes cut the same out of both.

    Levels stay: they mean px of the pictures that flow was computed on, whatever the size in which it is shown.

    Args:
        batch: `flow` uint8 (N, T, C, h, w) with its `flow_size` (N, 2), `video` (N, T, 3, H, W) with its `size` (N, 2).

    Returns:
        (N, T, C, H, W) uint8, padded like `video`.
    """
    flow, sizes = batch["flow"], batch["size"].tolist()
    if batch["flow_size"].tolist() == sizes:
        return flow
    out = flow.new_zeros((*flow.shape[:3], *batch["video"].shape[-2:]))
    for place, clip, (h, w), (height, width) in zip(out, flow, batch["flow_size"].tolist(), sizes, strict=True):
        place[..., :height, :width] = F.resize(clip[..., :h, :w], [height, width], antialias=True)
    return out


def mirrored_u(clip: Tensor) -> Tensor:
    """Flow (T, C, H, W) uint8 whose pictures were mirrored: what moved to the right moves to the left."""
    return torch.cat((255 - clip[:, :1], clip[:, 1:]), 1)


def reversed_flow(clip: Tensor) -> Tensor:
    """Flow (T, C, H, W) uint8 of a clip played backwards: the order of its frames and the sign of both directions change.

    What leads from a frame to the one before is taken to be the opposite of what leads to the next, so that flow stays where its frame
    shows what moves.
    """
    return torch.cat((255 - clip[:, :2], clip[:, 2:]), 1).flip(0)
