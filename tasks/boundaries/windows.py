"""Training windows: which candidates of a video are shown to the classifier, and batches that hold as many boundaries as background.

Every visit to a video gives `data.repeats` windows of it, so that a video is not decoded for one window. An epoch is `visits` visits to
every video.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.boundaries.config import FinetuneConfig, LabelConfig, WindowConfig
from tasks.boundaries.labels import candidates, hard_labels, targets, windows
from tasks.boundaries.truth import AnnotatedVideo, boundary_times
from tasks.core.clips.clips import frame_range
from tasks.core.clips.loader import Picked, StepSampler, make_train_loader
from tasks.core.data.manifest import Row


@dataclass(frozen=True)
class WindowPicker:
    """Draws candidates of a video and gives their windows.

    A visit draws where the grid of candidates begins. Half of the windows are boundaries and half background as the hard labels say
    (whatever the targets are); where the grid holds no candidate of one kind it is drawn from all frames, and where the video has none,
    the other kind takes its place.

    Attributes:
        count: windows a visit.
        balanced: false: any candidates of the grid, all alike.
    """

    window: WindowConfig
    label: LabelConfig
    count: int
    balanced: bool = True

    def __call__(self, pts: np.ndarray, rng: np.random.Generator, row: Row) -> Picked:
        """Windows of one visit; their `target` in [0, 1], float32, and whether they are a `boundary`, bool."""
        low, high = frame_range(pts, row.start_s, row.end_s)
        boundaries = boundary_times(row, pts)
        grid = candidates(pts, self.window, low, high, float(rng.random()))
        frames = np.arange(low, high)
        chosen = self._half_and_half(pts, rng, grid, frames, boundaries) if self.balanced else _draw(rng, grid, self.count)
        values = {
            "target": targets(pts, chosen, boundaries, self.label, self.window),
            "boundary": hard_labels(pts, chosen, boundaries, self.label.width_s),
        }
        return Picked(windows(pts, chosen, self.window, low, high), values)

    def _half_and_half(
        self, pts: np.ndarray, rng: np.random.Generator, grid: np.ndarray, frames: np.ndarray, boundaries: np.ndarray
    ) -> np.ndarray:
        pools = []
        for kind in (True, False):
            pool = grid[hard_labels(pts, grid, boundaries, self.label.width_s) == kind]
            if not len(pool):
                pool = frames[hard_labels(pts, frames, boundaries, self.label.width_s) == kind]
            pools.append(pool)
        pools = [pool if len(pool) else pools[1 - i] for i, pool in enumerate(pools)]
        return np.concatenate([_draw(rng, pool, self.count // 2) for pool in pools])


def _draw(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    """`count` of a pool, each once while there are enough."""
    return rng.choice(pool, count, replace=len(pool) < count)


def picker_of(config: FinetuneConfig) -> WindowPicker:
    """The picker that a configuration describes."""
    return WindowPicker(config.window, config.label, config.data.repeats, config.balanced)


def trainable(videos: list[AnnotatedVideo], balanced: bool) -> list[AnnotatedVideo]:
    """The videos that training takes: balanced batches leave out those without any boundary."""
    return [video for video in videos if video.boundaries] if balanced else videos


def micro_batches(n_videos: int, config: FinetuneConfig, world: int = 1) -> int:
    """Micro-batches of one process in one epoch."""
    return config.visits * StepSampler(n_videos, config.train.batch_size, 0, world, config.train.seed).steps_per_epoch


def window_loader(videos: list[AnnotatedVideo], config: FinetuneConfig, start: int = 0, rank: int = 0, world: int = 1) -> Any:
    """Endless batches from micro-batch `start` on: `core.clips.loader.collate`'s, with `target` float32 and `boundary` bool, (N,).

    What a batch holds is a pure function of the seed, its number and the files; two processes share what one with twice the batch
    would have.
    """
    rows = [video.row for video in videos]
    train = config.train
    return make_train_loader(rows, config.data, None, train.batch_size, rank, world, train.seed, start, picker=picker_of(config))
