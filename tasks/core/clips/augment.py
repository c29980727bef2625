"""From uint8 clips to what a network eats: batched augmentation on the batch's device.

Every random choice about a sample is a pure function of its entry in `batch["seed"]`: the batch it sits in, the device and the global
random state do not matter, and the global state is not touched. The choices are drawn with numpy on the CPU before any kernel starts.
`batch["size"]` and `batch["seed"]` should therefore stay on the CPU; on a GPU each would cost one wait for the device.

Cropping and resizing go clip by clip (a crop's size differs between clips, and `grid_sample`, which could do all at once, cannot
antialias); everything after that goes over chunks of the batch. What waits for the device: RandAugment's affine operations, the squares
of `crop: motion`, once a batch, and OpenCV's flow.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.core.clips import augment_ops as ops
from tasks.core.clips.boxes import as_controlled, cut, mirrored, warped
from tasks.core.clips.config import AugmentConfig
from tasks.core.clips.cutting import Normalize, at_a_time, cut_side, fill, resized
from tasks.core.clips.eval_transform import EvalTransform
from tasks.core.clips.mixing import Mixer
from tasks.core.clips.motion_crop import boxes_around, motion_squares
from tasks.core.clips.streams import check_streams, flow_at_frame_size, is_flow, mirrored_u, reversed_flow

__all__ = ["EvalTransform", "Mixer", "TrainTransform"]

_STREAM, _FRAME_STREAM = 0, 2  # of random numbers: of a clip, of its frames one by one
_RA_OPS = 2


def _slots(**widths: int) -> tuple[dict[str, slice], int]:
    """Fixed places for each augmentation's draws, so that switching one on changes no other."""
    places, start = {}, 0
    for name, width in widths.items():
        places[name] = slice(start, start + width)
        start += width
    return places, start


_SLOT, _N_DRAWS = _slots(
    crop=ops.CROP_DRAWS, flip=1, reverse=1, color=4, gray=1, randaugment=3 * _RA_OPS, erase=1, box=4, noise=2, apply_color=1, blur=2
)


class TrainTransform:
    """Random crop, flip, time reversal, RandAugment, flow, colour jitter, grey scale, blur, normalisation, random erasing; in this order.

    Every frame of a clip gets the same draw, but for jitter, grey and blur where `color_per` is `frame`. The flow of a clip (`data.flow`)
    gets the crop, flip, reversal and erased box of its frames; jitter, grey and blur only with `color_flow`. Its boxes
    (`data.boxes`) follow whatever moves what the frames show: crop, flip, reversal, and the operations of RandAugment that shift, shear or
    turn.

    RandAugment (Cubuk et al. 2019) works on the resized crop; magnitude 10 is the strongest setting of torchvision's 31 bins, so magnitude
    m is bin 3m. Random erasing (Zhong et al. 2017) cuts the same box out of all frames and fills it with standard normal noise that stands
    still.

    Args:
        augment: what to do and how strongly.
        size: side of the square frames that come out, px.
    """

    def __init__(self, augment: AugmentConfig, size: int):
        self.augment = augment
        self.size = size
        self._normalize = Normalize(augment)
        self._fill = [round(255 * value) for value in augment.mean]
        self._noise: Tensor | None = None

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        """One view of every clip: the `video` of `streams`."""
        return self.streams(batch)["video"]

    def streams(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One view of every clip and, where the batch has them, of its flow and boxes.

        Args:
            batch: `video` uint8 (N, T, C, H, W) padded right and bottom; `size` int64 (N, 2) valid height and width; `seed` int64 (N,);
                `modality`, `flow` with any C, when the pictures are flow; perhaps `flow` uint8 (N, T, C, h, w) and `flow_size` (N, 2);
                perhaps `boxes` (N, T, 4), px of the frames (`core.clips.boxes`), and `box_control`.

        Returns:
            `video` float32 (N, T, C, S, S), normalised, on the device of the batch's, `flow` likewise where it came in, and `boxes` float32
            (N, T, 4), px of the view.

        Raises:
            UsageError: settings that flow, or its number of channels, does not go with.
        """
        check_streams(batch, self.augment)
        video, seeds, size = batch["video"], ops.host(batch["seed"]), ops.host(batch["size"])
        draws = ops.uniform_draws(seeds, _STREAM, _N_DRAWS)
        boxes = self._boxes(video, size, draws[:, _SLOT["crop"]])
        colors = draws
        if self.augment.color_per == "frame":
            colors = ops.uniform_draws(seeds, _FRAME_STREAM, video.shape[1] * _N_DRAWS).reshape(-1, _N_DRAWS)
        out = {"video": self._stream(video, boxes, draws, colors, is_flow(batch))}
        if "flow" in batch:
            out["flow"] = self._stream(flow_at_frame_size(batch), boxes, draws, colors, True)
        if "boxes" in batch:
            samples = zip(ops.host(batch["boxes"]), boxes.tolist(), draws, strict=True)
            views = [self._clip_boxes(*sample) for sample in samples]
            out["boxes"] = as_controlled(views, batch, self.size).to(video.device)
        return out

    def frames(self, frames: Tensor) -> Tensor:
        """Frames of one video, (n, 3, H, W) uint8, to (n, 3, S, S) float32 as a training batch brings them there, drawn by seed 0."""
        size, seed = torch.tensor([frames.shape[-2:]], dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        return self({"video": frames[None], "size": size, "seed": seed})[0]

    def _stream(self, video: Tensor, boxes: np.ndarray, draws: np.ndarray, colors: np.ndarray, flow: bool) -> Tensor:
        """One view of every clip of one stream. `colors`: draws of jitter, grey and blur, for each clip or for each frame."""
        n, frames, channels = video.shape[:3]
        out = torch.empty((n, frames, channels, self.size, self.size), dtype=torch.float32, device=video.device)
        step, per_clip = at_a_time(out), len(colors) // max(1, n)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            part = out[rows]
            samples = zip(video[rows], boxes[rows].tolist(), draws[rows], strict=True)
            fill(part, (self._clip(*sample, flow) for sample in samples), self.augment)
            part.div_(255)
            if not flow or self.augment.color_flow:
                self._recolor(part, colors[rows.start * per_clip : rows.stop * per_clip])
            self._erase(self._normalize(part), draws[rows])
        return out

    def _recolor(self, unit: Tensor, draws: np.ndarray) -> None:
        """Jitter, grey and blur of (n, T, C, S, S) in [0, 1], in place; as many draws as clips, or as frames of all clips."""
        each = unit if len(draws) == len(unit) else unit.flatten(0, 1)[:, None]
        changed = self._blur(self._color(each, draws), draws)
        if changed is not each:
            each.copy_(changed)

    def _boxes(self, video: Tensor, size: np.ndarray, u: np.ndarray) -> np.ndarray:
        augment = self.augment
        match augment.crop:
            case "motion":
                squares, sizes, draw = motion_squares(video, torch.from_numpy(size)), torch.from_numpy(size), torch.from_numpy(u).float()
                factor = augment.motion_margin * 1.25 ** (2 * draw[:, 0] - 1)
                return boxes_around(squares, sizes, factor, 0.2 * (2 * draw[:, 1:3] - 1)).numpy()
            case "resized":
                return ops.resized_boxes(size, u, augment.scale, augment.ratio)
            case "multiscale":
                return ops.multiscale_boxes(size, u, augment.multiscale)
            case "center":
                return ops.center_boxes(size)
            case "none":
                return ops.full_boxes(size)

    def _clip(self, clip: Tensor, box: list[int], draw: np.ndarray, flow: bool) -> Tensor:
        top, left, height, width = box
        side = cut_side(self.size, self.augment)
        clip = resized(clip[..., top : top + height, left : left + width], [side, side])
        if draw[_SLOT["flip"]] < self.augment.flip:
            clip = clip.flip(-1)
            if flow and self.augment.flip_u:
                clip = mirrored_u(clip)
        if draw[_SLOT["reverse"]] < self.augment.time_reverse:
            clip = reversed_flow(clip) if flow else clip.flip(0)
        if self.augment.randaugment is not None:
            clip = self._randaugment(clip, draw[_SLOT["randaugment"]])
        return clip

    def _clip_boxes(self, boxes: np.ndarray, crop: list[int], draw: np.ndarray) -> np.ndarray:
        """What `_clip` does, to the boxes (T, 4) of its frames."""
        found = cut(boxes, crop, self.size)
        if draw[_SLOT["flip"]] < self.augment.flip:
            found = mirrored(found, self.size)
        if draw[_SLOT["reverse"]] < self.augment.time_reverse:
            found = found[::-1]
        if self.augment.randaugment is not None:
            maps = (ops.warp_of(name, strength, self.size) for name, strength in self._operations(draw[_SLOT["randaugment"]]))
            found = warped(found, [matrix for matrix in maps if matrix is not None], self.size)
        return found

    def _randaugment(self, clip: Tensor, draw: np.ndarray) -> Tensor:
        for name, strength in self._operations(draw):
            clip = ops.RANDAUGMENT[name](clip, strength, self._fill)
        return clip

    def _operations(self, draw: np.ndarray) -> Iterator[tuple[str, float]]:
        """(name, strength in [-1, 1]) of what RandAugment does to a clip."""
        magnitude, probability = self.augment.randaugment
        names = tuple(ops.RANDAUGMENT)
        for apply, which, sign in draw.reshape(_RA_OPS, 3).tolist():
            if apply < probability:
                yield names[int(which * len(names))], magnitude / 10 * (1 if sign < 0.5 else -1)

    def _color(self, unit: Tensor, draws: np.ndarray) -> Tensor:
        """Brightness, contrast, saturation, hue with factors in 1 +- strength (hue: +- a quarter of it, in turns); grey is saturation 0."""
        strength, gray = self.augment.color, draws[:, _SLOT["gray"]][:, 0] < self.augment.gray
        applied = draws[:, _SLOT["apply_color"]] < self.augment.color_prob
        factors = 1 + strength * (2 * draws[:, _SLOT["color"]] - 1) * applied
        saturation = np.where(gray, 0.0, factors[:, 2])
        if strength > 0:
            unit = ops.brighten(unit, ops.to_device(factors[:, 0], unit.device))
            unit = ops.contrast(unit, ops.to_device(factors[:, 1], unit.device))
            unit = ops.shift_hue(unit, ops.to_device((factors[:, 3] - 1) / 4, unit.device))
        if strength > 0 or self.augment.gray > 0:
            unit = ops.saturate(unit, ops.to_device(saturation, unit.device))
        return unit

    def _blur(self, unit: Tensor, draws: np.ndarray) -> Tensor:
        """Sigma uniform in 0.1 to 2 px of a 224 px frame (Chen et al. 2020, SimCLR), in smaller frames in proportion."""
        apply, strength = draws[:, _SLOT["blur"]].T
        chosen = np.flatnonzero(apply < self.augment.blur)
        if len(chosen):
            rows = torch.from_numpy(chosen).to(unit.device, non_blocking=True)
            share = self.size / 224
            unit[rows] = ops.blur(unit[rows], (0.1 + 1.9 * strength[chosen]) * share, math.ceil(6 * share))
        return unit

    def _erase(self, video: Tensor, draws: np.ndarray) -> None:
        if self.augment.erasing == 0:
            return
        noise = self._noise_field(video.device)
        boxes = ops.erasing_boxes(draws[:, _SLOT["box"]], self.size)
        for clip, box, draw in zip(video, boxes.tolist(), draws, strict=True):
            if draw[_SLOT["erase"]] < self.augment.erasing:
                top, left, height, width = box
                free = np.array([2 * self.size - height, 2 * self.size - width])
                y, x = (draw[_SLOT["noise"]] * (free + 1)).astype(int).tolist()
                clip[..., top : top + height, left : left + width] = noise[: clip.shape[1], y : y + height, x : x + width]

    def _noise_field(self, device: torch.device) -> Tensor:
        """One fixed field of normal noise, (3, 2S, 2S), of which each erased box takes a random window: no noise is made per batch."""
        if self._noise is None or self._noise.device != device:
            generator = torch.Generator().manual_seed(0)
            self._noise = torch.randn((3, 2 * self.size, 2 * self.size), generator=generator).to(device)
        return self._noise
