"""The views of a clip that testing takes, without randomness."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.core.clips import augment_ops as ops
from tasks.core.clips.boxes import as_controlled, cut, mirrored
from tasks.core.clips.config import AugmentConfig
from tasks.core.clips.cutting import Normalize, cut_side, fill, resized
from tasks.core.clips.motion_crop import boxes_around, motion_squares
from tasks.core.clips.streams import check_streams, flow_at_frame_size

TEN_CROPS_SIDE = 8 / 7
"""Short side over the side of the squares of ten crops: 256 px for squares of 224 (Krizhevsky et al. 2012, section 4.1)."""


@dataclass(frozen=True)
class _Squares:
    """How the views of one clip are cut.

    Attributes:
        size: height and width of the clip, px.
        scaled: height and width that it is resized to before.
        parts: top, left, height and width of each view in that.
        flips: whether each view is mirrored.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    parts: Sequence[tuple[int, int, int, int]]
    flips: Sequence[bool]

    def of_clip(self, clip: Tensor, side: int, resample: str) -> Iterator[Tensor]:
        """The views `(T, C, side, side)` of a padded clip."""
        clip = clip[..., : self.size[0], : self.size[1]]
        if self.scaled != self.size:
            clip = resized(clip, list(self.scaled), resample)
        for (top, left, height, width), flip in zip(self.parts, self.flips, strict=True):
            view = clip[..., top : top + height, left : left + width]
            view = view if (height, width) == (side, side) else resized(view, [side, side], resample)
            yield view.flip(-1) if flip else view

    def of_boxes(self, boxes: np.ndarray, side: int) -> Iterator[np.ndarray]:
        """Boxes `(T, 4)` of the clip in each of its views, whose side is given in px."""
        boxes = boxes * np.tile(np.array(self.scaled[::-1]) / self.size[::-1], 2)
        for part, flip in zip(self.parts, self.flips, strict=True):
            found = cut(boxes, part, side)
            yield mirrored(found, side) if flip else found


class EvalTransform:
    """Short side to S (with flow to 2 S), then the centre square, three squares spread along the long side, or ten crops; normalised. No
    randomness.

    Ten crops: short side to 8/7 of that, the squares in the four corners and the centre, then the same mirrored. With `crop: motion` the
    one view is the square around what moves, and three views are that square at 0.85, 1 and 1.15 of its size.

    Args:
        augment: only `mean`, `std`, `flow`, and `crop` and its margin where that is `motion`.
        size: S, px.
        crops: 1 (centre), 3 (left / top, centre, right / bottom) or 10.
        resample: how frames are scaled, bilinear or bicubic.
    """

    def __init__(self, augment: AugmentConfig, size: int, crops: int = 1, resample: str = "bilinear"):
        possible = (1, 3) if augment.crop == "motion" else (1, 3, 10)
        if crops not in possible:
            raise ValueError(f"crops must be {' or '.join(map(str, possible))}, not {crops}")
        self.size = size
        self.crops = crops
        self.resample = resample
        self.augment = augment
        self._normalize = Normalize(augment)

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        """The views of every clip: the `video` of `streams`."""
        return self.streams(batch)["video"]

    def streams(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The views of every clip and, where the batch has them, of its flow and boxes.

        Args:
            batch: as of `TrainTransform.streams`; `seed` only for boxes at random places.

        Returns:
            `video` float32 (N * crops, T, C, S, S) on the device of the batch's, and `flow` and `boxes` likewise where they came in; the
            crops of one clip are neighbours.

        Raises:
            UsageError: as `TrainTransform.streams`.
        """
        check_streams(batch, self.augment)
        videos = {"video": batch["video"]} | ({"flow": flow_at_frame_size(batch)} if "flow" in batch else {})
        squares = self._squares(batch["video"], ops.host(batch["size"]))
        out = {name: self._views(video, squares) for name, video in videos.items()}
        if "boxes" in batch:
            views = [
                view for each, boxes in zip(squares, ops.host(batch["boxes"]), strict=True) for view in each.of_boxes(boxes, self.size)
            ]
            out["boxes"] = as_controlled(views, batch, self.size).to(batch["video"].device)
        return out

    def _views(self, video: Tensor, squares: list[_Squares]) -> Tensor:
        """Views of one stream."""
        n, frames, channels = video.shape[:3]
        out = torch.empty((n * self.crops, frames, channels, self.size, self.size), dtype=torch.float32, device=video.device)
        side = cut_side(self.size, self.augment)
        views = (view for clip, each in zip(video, squares, strict=True) for view in each.of_clip(clip, side, self.resample))
        fill(out, views, self.augment)
        for part in out.split(self.crops):
            self._normalize(part.div_(255))
        return out

    def _squares(self, video: Tensor, sizes: np.ndarray) -> list[_Squares]:
        """How each clip is cut; where motion is, is decided on these frames."""
        if self.augment.crop != "motion":
            return [self._fixed_squares(height, width) for height, width in sizes.tolist()]
        sizes = torch.from_numpy(sizes)
        found, zooms = motion_squares(video, sizes), (1.0,) if self.crops == 1 else (0.85, 1.0, 1.15)
        boxes = torch.stack([boxes_around(found, sizes, self.augment.motion_margin * zoom) for zoom in zooms], dim=1)
        return [
            _Squares(tuple(size), tuple(size), parts, [False] * len(zooms))
            for size, parts in zip(sizes.tolist(), boxes.tolist(), strict=True)
        ]

    def _fixed_squares(self, height: int, width: int) -> _Squares:
        side = cut_side(self.size, self.augment)
        short = round(side * TEN_CROPS_SIDE) if self.crops == 10 else side
        long = max(short, round(short * max(height, width) / min(height, width)))
        scaled = (short, long) if height <= width else (long, short)
        if self.crops == 10:
            corners = _five_places(*scaled, side) * 2
        else:
            free = [int((long - side) * share) for share in ((0.5,) if self.crops == 1 else (0.0, 0.5, 1.0))]
            corners = [(0, place) if height <= width else (place, 0) for place in free]
        flips = [number >= 5 for number in range(len(corners))]
        return _Squares((height, width), scaled, [(top, left, side, side) for top, left in corners], flips)


def _five_places(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """(top, left) of the squares in the corners and the centre, in torchvision's order."""
    bottom, right = height - side, width - side
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
