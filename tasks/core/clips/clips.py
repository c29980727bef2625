"""Which frames make a clip. Pure functions of frame times and a random generator; nothing here opens a video.

Numbers always lie inside the video, or inside [start, end) where a row names a part of it. A video that is too short for a clip is
padded by repeating its last frame, or played slower (`stretch`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tasks.core.clips.config import ClipConfig
from tasks.core.data.grid import Grid

_INTERVAL_S = 1 / 25
"""Between the frames of a video that has only one."""
_NEARLY = 1e-6
FIFTH = 0.2
"""Of the length of a video: where clips that span it begin, and where they end."""


def frame_range(pts: np.ndarray, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Numbers [first, last + 1) of the frames with start_s <= pts < end_s; at least one frame: the one on screen at start_s.

    Args:
        pts: (n,) presentation times, seconds, increasing.
        start_s, end_s: None: from the first, to the last frame.
    """
    low = 0 if start_s is None else int(np.searchsorted(pts, start_s - 1e-6))
    high = len(pts) if end_s is None else int(np.searchsorted(pts, end_s - 1e-6))
    if high <= low:
        low = max(0, min(low, len(pts)) - 1)
        high = low + 1
    return low, high


def duration_s(pts: np.ndarray, fps: float | None) -> float:
    """Seconds from the start of the first of these frames to the end of the last, which stays as long as they do in the median.

    Args:
        pts: (n,) presentation times, seconds, increasing, n >= 1.
        fps: for a single frame; None or 0: 25.
    """
    return float(pts[-1] - pts[0]) + (float(np.median(np.diff(pts))) if len(pts) > 1 else 1 / fps if fps else _INTERVAL_S)


@dataclass(frozen=True)
class ClipSampler:
    """Picks `frames` frames.

    Attributes:
        frames: T, the length of a clip.
        sampling: `dense`, a window of frames a stride apart; `segments` (TSN), one frame from each of T equal parts; or `span`, frames
            evenly apart in time from a start in the first fifth of the video to an end in its last fifth (Han et al., "Turbo training with
            token dropout", BMVC 2022).
        stride_frames: the stride in frames; used where stride_s is None.
        stride_s: the stride in seconds; the frame nearest in time is taken, so variable frame rates keep their speed.
        stretch: a stride in seconds becomes as small as the video needs to be as long as a clip.
        stride_jitter: j, multiplies stride_s in training by a factor between 1 / (1 + j) and 1 + j, evenly in its logarithm.
    """

    frames: int
    sampling: str = "dense"
    stride_frames: int = 1
    stride_s: float | None = None
    stride_jitter: float = 0.0
    stretch: bool = False

    @classmethod
    def from_config(cls, config: ClipConfig) -> "ClipSampler":
        """The sampler that a configuration describes; without a stride neighbouring frames are taken."""
        return cls(config.frames, config.sampling, config.stride_frames or 1, config.stride_s, config.stride_jitter, config.stretch)

    def train(
        self, n_frames: int, pts: np.ndarray, rng: np.random.Generator, start: float | None = None, end: float | None = None
    ) -> np.ndarray:
        """One random clip.

        Args:
            n_frames: decodable frames;
            pts: (n_frames,) seconds;
            start, end: seconds, the part of the video that counts.

        Returns:
            (T,) int64 frame numbers, not decreasing.
        """
        place = rng.random(self._draws())
        played = self
        if self.stride_s is not None and self.stride_jitter:
            factor = (1 + self.stride_jitter) ** rng.uniform(-1, 1)
            played = replace(self, stride_s=self.stride_s * factor)
        return played._clip(pts[:n_frames], place, start, end)

    def views(self, n_frames: int, pts: np.ndarray, n_clips: int = 1, start: float | None = None, end: float | None = None) -> np.ndarray:
        """The fixed clips of a test: windows whose starts are spread evenly from the first possible to the last, one view: the middle.

        With `segments`, view j takes the point (j + 1/2) / n_clips of every part (one view: the centres; two: interleaved sets). With
        `span`, starts and ends are drawn as in training, but the same for every video (one view: the middle of both fifths).

        Returns:
            (n_clips, T) int64 frame numbers.
        """
        clips = []
        for view in range(n_clips):
            if self.sampling == "segments":
                place = np.full(self.frames, (view + 0.5) / n_clips)
            elif self.sampling == "span":
                place = np.full(2, 0.5) if n_clips == 1 else np.random.default_rng(view).random(2)
            else:
                place = np.full(1, 0.5 if n_clips == 1 else view / (n_clips - 1))
            clips.append(self._clip(pts[:n_frames], place, start, end, inclusive=True))
        return np.stack(clips)

    def windows(
        self,
        n_frames: int,
        pts: np.ndarray,
        hop_frames: int | None = None,
        hop_s: float | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Iterator[np.ndarray]:
        """Dense windows over the whole video, `hop_frames` or `hop_s` apart (neither: one window after the other); the last one ends
        with the video, so that every frame region is covered.

        Yields:
            (T,) int64 frame numbers.
        """
        pts = pts[:n_frames]
        low, high = frame_range(pts, start, end)
        if self.stride_s is not None or hop_s is not None:
            yield from self._windows_in_time(pts, low, high, hop_frames, hop_s)
            return
        span = (self.frames - 1) * self.stride_frames + 1
        last = max(low, high - span)
        for first in [*range(low, last, hop_frames or span), last]:
            yield self._frames_from(first, high)

    def on_grid(
        self, pts: np.ndarray, hop_s: float | None = None, start: float | None = None, end: float | None = None
    ) -> tuple[Grid, Iterator[np.ndarray]]:
        """Windows that begin exactly `hop_s` apart (None: each where the one before ends), from the first frame on, as long as they begin
        before the end of the last frame.

        Window i takes the frames nearest to `offset_s + i * hop_s + k * stride`, k = 0 .. T - 1, whatever the frame rate; what lies beyond
        the last frame is that frame again. A stride in frames is turned into seconds by the mean distance of this video's frames.

        Args:
            pts: (n,) presentation times of all frames, seconds, increasing.
            hop_s: seconds.
            start, end: seconds, the part of the video that counts.

        Returns:
            the grid: its span is T strides, its offset the time of the first frame; the windows, (T,) int64 frame numbers each.
        """
        low, high = frame_range(pts, start, end)
        interval = (pts[-1] - pts[0]) / (len(pts) - 1) if len(pts) > 1 else _INTERVAL_S
        stride = self.stride_s or self.stride_frames * interval
        grid = Grid(hop_s or self.frames * stride, self.frames * stride, float(pts[low]))
        until = pts[0] + duration_s(pts, None)
        until = until if end is None else min(until, end)
        n = max(1, math.ceil((until - pts[low]) / grid.stride_s - _NEARLY))
        shown = stride if self.stride_s is None else self._seconds(pts, low, high)
        places = shown * np.arange(self.frames) - _NEARLY  # of two frames equally near the earlier, rounding aside
        return grid, (nearest(pts, begin + places, low, high) for begin in grid.times(n)[:, 0])

    def half_overlapping(
        self, n_frames: int, pts: np.ndarray, start: float | None = None, end: float | None = None
    ) -> Iterator[np.ndarray]:
        """Windows over the whole video, each of which begins in the middle of the one before; arguments and items as `windows`."""
        if self.stride_s is not None:
            return self.windows(n_frames, pts, hop_s=self.frames * self.stride_s / 2, start=start, end=end)
        return self.windows(n_frames, pts, hop_frames=max(1, self.frames * self.stride_frames // 2), start=start, end=end)

    def _windows_in_time(self, pts: np.ndarray, low: int, high: int, hop_frames: int | None, hop_s: float | None) -> Iterator[np.ndarray]:
        interval = (pts[high - 1] - pts[low]) / max(1, high - 1 - low)
        stride = self._seconds(pts, low, high) if self.stride_s is not None else self.stride_frames * interval
        hop = hop_s or (hop_frames * interval if hop_frames else 0) or self.frames * stride or 1.0
        last = max(pts[low], pts[high - 1] - (self.frames - 1) * stride)
        for first in [*np.arange(pts[low], last - 1e-6, hop), last]:
            yield nearest(pts, first + stride * np.arange(self.frames), low, high)

    def _draws(self) -> int:
        """Random numbers that a clip takes."""
        return {"segments": self.frames, "span": 2}.get(self.sampling, 1)

    def _clip(self, pts: np.ndarray, place: np.ndarray, start: float | None, end: float | None, inclusive: bool = False) -> np.ndarray:
        """`place` in [0, 1) (or [0, 1] if inclusive): where the clip, each frame in its part, or start and end in their fifths, lie."""
        low, high = frame_range(pts, start, end)
        if self.sampling == "span":
            first, length = pts[low], pts[high - 1] - pts[low]
            ends = first + length * FIFTH * place[0], first + length * (1 - FIFTH * place[1])
            return nearest(pts, np.linspace(*ends, self.frames), low, high)
        if self.sampling == "segments":
            part = (high - low) / self.frames
            found = np.floor(low + (np.arange(self.frames) + place) * part + 1e-9).astype(np.int64)
            return np.clip(found, low, high - 1)
        if self.stride_s is not None:
            stride = self._seconds(pts, low, high)
            room = max(0.0, pts[high - 1] - pts[low] - (self.frames - 1) * stride)
            return nearest(pts, pts[low] + place[0] * room + stride * np.arange(self.frames), low, high)
        room = max(0, high - low - ((self.frames - 1) * self.stride_frames + 1))
        offset = round(place[0] * room) if inclusive else int(place[0] * (room + 1))
        return self._frames_from(low + offset, high)

    def _seconds(self, pts: np.ndarray, low: int, high: int) -> float:
        """The stride of clips of the frames [low, high): `stride_s`, or less where they are to be stretched."""
        if not self.stretch or self.frames == 1:
            return self.stride_s
        return min(self.stride_s, (pts[high - 1] - pts[low]) / (self.frames - 1))

    def _frames_from(self, first: int, high: int) -> np.ndarray:
        return np.minimum(first + self.stride_frames * np.arange(self.frames, dtype=np.int64), high - 1)


def nearest(pts: np.ndarray, seconds: np.ndarray, low: int = 0, high: int | None = None) -> np.ndarray:
    """The frames of [low, high) whose times lie nearest to `seconds` (the earlier of two equals); int64, same shape."""
    part = pts[low:high]
    right = np.clip(np.searchsorted(part, seconds), 1, max(1, len(part) - 1))
    if len(part) == 1:
        return np.full(np.shape(seconds), low, np.int64)
    closer = np.where(seconds - part[right - 1] <= part[right] - seconds, right - 1, right)
    return (low + closer).astype(np.int64)
