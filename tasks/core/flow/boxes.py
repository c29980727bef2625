"""Motion boxes: where things move in a video, per frame, without a detector and however the camera moves.

MOFO (Ahmadian et al., NeurIPS workshop 2023): optical flow, its spatial derivatives (`motion_map`), areas of strong derivatives and a box
around them, and rules that make boxes of a video of the boxes of its frames (`box_rules`).
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from tasks.core.errors import InputError
from tasks.core.flow.box_rules import CODE, PAPER, moving_box, settle
from tasks.core.flow.boxes_config import MotionBoxConfig
from tasks.core.flow.dis import DisFlow
from tasks.core.flow.flow import to_grey
from tasks.core.flow.levels import SMALLEST_PX
from tasks.core.flow.motion_map import changing, code_map, code_window, paper_map, quantized
from tasks.core.flow.tvl1 import tvl1
from tasks.core.video.reader import VideoError, VideoReader, scaled_size

_WINDOW = 32  # frames brought to the device at a time
ENOUGH_PX = 128
"""Short side to which smaller frames are enlarged: dense inverse search finds no motion in pictures of a few of its patches."""


class MotionBoxes:
    """Finds motion boxes.

    Args:
        config: how.
        device: where TV-L1 runs.
    """

    def __init__(self, config: MotionBoxConfig | None = None, device: torch.device | str = "cpu"):
        self.config = config or MotionBoxConfig()
        self.device = torch.device(device if self.config.flow == "tvl1" else "cpu")
        self.rules = PAPER if self.config.mode == "paper" else CODE

    def of_pictures(self, pictures: Tensor | np.ndarray) -> np.ndarray:
        """The motion boxes of consecutive frames.

        Args:
            pictures: `(T, H, W, 3)` uint8 RGB, T >= 1, at least 12 px high and wide.

        Returns:
            `(T, 4)` float32 x1, y1, x2, y2 in px of these pictures, x2 and y2 just outside; inside the frame, never empty. Where nothing
            moves it is the box of the frame before and, from the first frame on, the central half.

        Raises:
            InputError: the pictures are too small for optical flow.
            UsageError: OpenCV is not installed.
        """
        frames = torch.as_tensor(pictures).cpu().numpy()
        n, height, width, _ = frames.shape
        if min(height, width) < SMALLEST_PX:
            raise InputError(f"frames of {width}x{height} px are too small for optical flow", f"at least {SMALLEST_PX} px")
        size = self._working_size(height, width)
        parts = list(self._found((_resized(frame, size) for frame in frames), n, height, width))
        return self.settle(np.concatenate(parts), height, width)

    def stream(
        self, reader: VideoReader, start: int = 0, stop: int | None = None, advance: Callable[[int], None] = lambda n: None
    ) -> Iterator[np.ndarray]:
        """What moves in each frame of a video of any length, in bounded memory; `settle` makes boxes of all of it.

        Args:
            reader: the video.
            start, stop: frames with start <= number < stop; None: to the end.
            advance: told of the frames that are behind.

        Yields:
            `(k, 4)` float64 of the next k frames, px of the video; NaN where nothing moves.

        Raises:
            VideoError: the frames cannot be decoded, or are too small.
            UsageError: OpenCV is not installed.
        """
        height, width = reader.height, reader.width
        if min(height, width) < SMALLEST_PX:
            raise VideoError(reader.path, f"its frames of {width}x{height} px are too small for optical flow")
        stop = reader.n_frames if stop is None else stop
        size = self._working_size(height, width)
        read = reader.frames(start, stop, min(*size, height, width))
        frames = (_resized(image, size) if min(size) > min(height, width) else image for _, _, image in read)
        for part in self._found(frames, stop - start, height, width):
            yield part
            advance(len(part))

    def settle(self, found: np.ndarray, height: int, width: int) -> np.ndarray:
        """The boxes of a video from what `stream` yields, all of it: gaps filled, outliers replaced, padded.

        Args:
            found: `(T, 4)` px; NaN where nothing moves.
            height, width: of the frames, px.

        Returns:
            `(T, 4)` float32, see `of_pictures`.
        """
        return settle(found, height, width, self.rules)

    def _working_size(self, height: int, width: int) -> tuple[int, int]:
        return scaled_size(height, width, min(self.config.short_side, max(ENOUGH_PX, min(height, width))))

    def _found(self, frames: Iterable[np.ndarray], n: int, height: int, width: int) -> Iterator[np.ndarray]:
        """`(k, 4)` boxes in px of frames of `height` x `width`, from n `frames` of another size."""
        maps = self._paper_maps if self.config.mode == "paper" else self._code_maps
        for part in maps(self._pairs(frames, n), n):
            _, h, w = part.shape
            boxes = [moving_box(motion, self.rules) or (np.nan,) * 4 for motion in part.float().cpu().numpy()]
            yield np.array(boxes, dtype=np.float64) * np.array([width / w, height / h] * 2)

    def _pairs(self, frames: Iterable[np.ndarray], n: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`(k + 1, h, w)` uint8 grey frames, the first of which is the last of the part before, and `(k, 2, h, w)` px, the flow of each to
        the next.
        """
        held: list[np.ndarray] = []
        for number, frame in enumerate(frames, 1):
            held.append(frame)
            if number == n or len(held) > _WINDOW:
                grey = to_grey(torch.from_numpy(np.stack(held)).to(self.device))
                yield grey, self._flow(grey[:-1], grey[1:])
                held = held[-1:]

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        flow = torch.empty(len(first), 2, *first.shape[1:], device=first.device)
        if self.config.flow == "tvl1" and len(first):
            return tvl1(first, second)
        solve = DisFlow("medium")
        for row, a, b in zip(flow, first.cpu().numpy(), second.cpu().numpy(), strict=True):
            row.copy_(torch.from_numpy(solve(a, b)).permute(2, 0, 1))
        return flow

    def _paper_maps(self, pairs: Iterable[tuple[Tensor, Tensor]], n: int) -> Iterator[Tensor]:
        """`(k, h, w)` motion maps of n frames: the last repeats that of the frame before, a single frame rests."""
        done = 0
        for grey, flow in pairs:
            maps = paper_map(flow) * changing(grey[:-1], grey[1:])
            done += len(maps)
            if done == n - 1:
                maps = torch.cat((maps, maps[-1:] if n > 1 else torch.zeros_like(grey, dtype=flow.dtype)))
            yield maps

    def _code_maps(self, pairs: Iterable[tuple[Tensor, Tensor]], n: int) -> Iterator[Tensor]:
        """The same in windows of flow fields, of which there are as many as frames: the last is repeated."""
        held, first, done = torch.empty(0), 0, 0  # flow fields, the number of the first of them, frames that are done
        for grey, flow in pairs:
            levels = quantized(flow)
            held = torch.cat((held.to(levels), levels)) if len(held) else levels
            if first + len(held) == n - 1:
                held = torch.cat((held, held[-1:] if n > 1 else quantized(torch.zeros_like(grey, dtype=flow.dtype)).expand(1, 2, -1, -1)))
            windows = []
            while done < n and code_window(done, n)[1] <= first + len(held):
                windows.append(code_window(done, n))
                done += 1
            if windows:
                before = torch.cat((torch.zeros_like(held[:1]), held.cumsum(0)))  # whole numbers: exact
                starts, stops = (torch.tensor(ends, device=held.device) - first for ends in zip(*windows, strict=True))
                yield code_map(before[stops] - before[starts])
                kept = code_window(done, n)[0] if done < n else first + len(held)
                held, first = held[kept - first :], kept


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if frame.shape[:2] == size:
        return frame
    import cv2

    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA if size[0] < frame.shape[0] else cv2.INTER_CUBIC)
