"""Is a reader exact on this file? A few frames asked for out of order, compared with the sequential decode."""

from dataclasses import replace

import numpy as np

from tasks.core.video.cursor import Cursor
from tasks.core.video.index import VideoIndex
from tasks.core.video.pyav_reader import to_rgb
from tasks.core.video.reader import VideoReader

TOLERANCE = 3.0  # mean absolute difference, grey levels: above what two colour conversions differ by, below a wrong frame
_SEED = 20240229


def probe_numbers(index: VideoIndex, most: int = 16) -> list[int]:
    """Frames worth asking for: first, middle, last, around keyframes, and some at random; shuffled, each once."""
    n = len(index.ticks)
    keys = index.keys[1:]
    keys = keys[np.unique(np.linspace(0, len(keys) - 1, 3).astype(int))] if len(keys) else keys
    chosen = [0, n // 2, n - 1, *(int(k) + d for k in keys for d in (-1, 0, 1))]
    rng = np.random.default_rng(_SEED)
    chosen += rng.integers(0, n, most).tolist()
    kept = list(dict.fromkeys(number for number in chosen if 0 <= number < n))[:most]
    return [kept[i] for i in rng.permutation(len(kept))]


def sequential_pictures(path: str, index: VideoIndex, numbers: list[int]) -> dict[int, np.ndarray]:
    """(H, W, 3) uint8 RGB of these frames, counted from the start of the file: the truth that seeks are measured against."""
    cursor = Cursor(path, replace(index, seekable=False, keys=np.zeros(1, np.int64)), threads=1)
    try:
        return {n: to_rgb(cursor.fetch(n), index.height, index.width, index.rotation) for n in sorted(numbers)}
    finally:
        cursor.close()


def count_wrong(reader: VideoReader, truth: dict[int, np.ndarray], numbers: list[int]) -> int:
    """How many of the frames, asked for one by one in this order, differ from the truth in picture or size."""
    wrong = 0
    for number in numbers:
        picture = reader.get([number])[0]
        expected = truth[number]
        same_size = picture.shape == expected.shape
        wrong += not same_size or float(np.abs(picture.astype(np.int16) - expected).mean()) > TOLERANCE
    return wrong
