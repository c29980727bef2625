"""Whole videos decoded once into one block of shared memory, for sets that fit (`data.preload`)."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from tasks.core.data.memory import require_memory
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, scaled_size


@dataclass(frozen=True)
class StoredVideo:
    """One video of a store: times, (T, H, W) as stored, where its frames begin in the block, and their size as decoded."""

    pts: np.ndarray
    shape: tuple[int, int, int]
    offset: int
    height: int
    width: int


class FrameStore:
    """Every frame of a list of videos at one short side, as one shared uint8 tensor that worker processes see without a copy.

    Args:
        paths: videos; each is stored once however often it occurs.
        short_side: px; None: as decoded.
        opener: path -> VideoReader.
        threads: videos decoded at the same time.

    Raises:
        UsageError: the frames would need more memory than the machine has free.
    """

    def __init__(self, paths: Iterable[str], short_side: int | None, opener: Callable = open_video, threads: int | None = None):
        self.failed: dict[str, str] = {}
        self._videos: dict[str, StoredVideo] = {}
        self._opener, self._short_side = opener, short_side
        paths = list(dict.fromkeys(paths))
        with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
            offset = 0
            for path, found in zip(paths, pool.map(self._measure, paths), strict=True):
                if isinstance(found, str):
                    self.failed[path] = found
                    continue
                pts, shape, decoded = found
                self._videos[path] = StoredVideo(pts, shape, offset, *decoded)
                offset += int(np.prod(shape)) * 3
            require_memory(offset, "set data.short_side to a smaller size, or data.preload=false")
            self._block = torch.empty(offset, dtype=torch.uint8).share_memory_()
            for path, reason in zip(list(self._videos), pool.map(self._fill, list(self._videos)), strict=True):
                if reason is not None:
                    self.failed[path] = reason
                    del self._videos[path]
        self._opener = None

    def memory_bytes(self) -> int:
        """Bytes of shared memory held."""
        return self._block.numel()

    def video(self, path: str) -> StoredVideo:
        """Times and shape of one video; raises VideoError with the reason where it could not be read."""
        if path in self.failed:
            raise VideoError(path, self.failed[path])
        return self._videos[path]

    def get(self, path: str, indices: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8 frames, a copy."""
        return self._frames(self.video(path))[indices]

    def _frames(self, video: StoredVideo) -> np.ndarray:
        size = int(np.prod(video.shape)) * 3
        return self._block[video.offset : video.offset + size].numpy().reshape(*video.shape, 3)

    def _measure(self, path: str) -> tuple[np.ndarray, tuple[int, int, int], tuple[int, int]] | str:
        try:
            with self._opener(path) as reader:
                decoded = reader.height, reader.width
                return reader.pts, (reader.n_frames, *scaled_size(*decoded, self._short_side)), decoded
        except VideoError as error:
            return error.reason

    def _fill(self, path: str) -> str | None:
        out = self._frames(self._videos[path])
        try:
            with self._opener(path) as reader:
                for number, _, image in reader.frames(short_side=self._short_side):
                    out[number] = image
        except VideoError as error:
            return error.reason
        return None
