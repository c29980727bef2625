"""The training-free detector: learns from normal footage of a fixed camera how much things move and change, and flags what does so more.

No network, no download. Ten times a second two maps are taken: the length of the optical flow and the change of the picture, both as means
over windows of 24 px that last 0.9 s. What is usual is learnt per row of the picture, as a straight line from top to bottom: on the ground
in front of a camera things grow towards the lower edge, and a line can be learnt from rows in which anything moved at all. A frame is as
anomalous as its most unusual window. It sees what is fast, large or new in its motion; it does not see what is merely of another kind.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tasks.anomalies.result import FrameScores
from tasks.core.clips.clips import frame_range
from tasks.core.errors import InputError, UsageError
from tasks.core.flow.dis import DisFlow
from tasks.core.video.open import open_video
from tasks.core.video.reader import VideoError, VideoReader

SHORT_SIDE_PX = 240
CELL_PX = 8
WINDOW_CELLS = 3
WINDOW_S = 0.9
RATE_HZ = 10.0
PARTS = ("motion", "change")
_MOVING_PX = 0.5
"""Windows that move at least this far in 0.1 s tell what is usual."""
_ENOUGH = 500
_MAX_SAMPLES = 20_000
_HIGH = 0.99
_FLOOR = (0.2, 2.0)
"""Least usual motion (px in 0.1 s) and change (levels): below is noise of the camera."""
_RARE = 1e-3
_GREY = np.array([0.299, 0.587, 0.114], np.float32)

NOTES = ["the first and last half second are judged by shorter windows"]


@dataclass(frozen=True)
class NormalSource:
    """Normal footage: a video, or the part start_s <= t < end_s of it."""

    path: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Scale:
    """What is usual.

    Attributes:
        rows: (2, h) what windows of each row reach once in a hundred times.
        middle, spread: (2,) of the frames' highest ratio to it.
    """

    rows: np.ndarray
    middle: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True)
class NormalModel:
    """What was learnt; small, and can be sent to other processes.

    Attributes:
        scale: see `Scale`.
        typical: median of the fused evidence of normal frames.
        rare: what one normal frame in a thousand reaches.
        part_rare: (2,) the same per part.
        cells: (h, w) of the map.
        n_samples, n_videos: what it was learnt from.
        skipped: (path, reason) of footage that could not be read.
    """

    scale: Scale
    typical: float
    rare: float
    part_rare: np.ndarray
    cells: tuple[int, int]
    n_samples: int
    n_videos: int
    skipped: tuple[tuple[str, str], ...] = ()


def fit(sources: list[NormalSource], advance: Callable[[int], None] = lambda n: None, decoder: str = "auto") -> NormalModel:
    """Learns from normal footage.

    Args:
        sources: videos of one camera.
        advance: told the number of frames read.

    Raises:
        InputError: no video can be read, or there are less than two seconds.
        UsageError: pictures of different shapes.
    """
    videos, skipped = [], []
    for source in sources:
        try:
            with open_video(source.path, decoder) as reader:
                start, stop = frame_range(reader.pts, source.start_s, source.end_s)
                videos.append(windows(np.stack([maps for _, _, maps in samples(reader, start, stop, advance)])))
        except VideoError as error:
            skipped.append((source.path, error.reason))
    if not videos:
        raise InputError(f"none of the {len(sources)} normal videos can be read: {'; '.join(': '.join(one) for one in skipped[:3])}")
    return replace(learn(videos), skipped=tuple(skipped))


def learn(videos: list[np.ndarray]) -> NormalModel:
    """The model of a list of (n, 2, h, w) float32 maps of windows."""
    shapes = {maps.shape[2:] for maps in videos}
    if len(shapes) != 1:
        raise UsageError("the normal footage has pictures of different shapes", "it must come from one camera")
    count = sum(map(len, videos))
    if count < 2 * RATE_HZ:
        raise InputError(f"{count / RATE_HZ:.1f} s of normal footage are too little to learn from", "give at least some minutes")
    every = -(-count // _MAX_SAMPLES)
    videos = [maps[::every] for maps in videos]
    scale = usual(videos)
    halves = [videos[::2], videos[1::2]] if len(videos) > 1 else [[videos[0][: len(videos[0]) // 2]], [videos[0][len(videos[0]) // 2 :]]]
    unseen = [evidence(maps, usual(one)) for one, other in (halves, halves[::-1]) for maps in other]
    parts = np.concatenate(unseen, 1)
    return NormalModel(
        scale=scale,
        typical=float(np.median(parts.sum(0))),
        rare=rare(parts.sum(0)),
        part_rare=np.array([rare(part) for part in parts]),
        cells=next(iter(shapes)),
        n_samples=count,
        n_videos=len(videos),
    )


def score_video(
    model: NormalModel, reader: VideoReader, advance: Callable[[int], None] = lambda n: None, start: int = 0, stop: int | None = None
) -> FrameScores:
    """Scores of every frame with start <= number < stop, in [0, 1]: 0.5 is what one normal frame in a thousand reaches.

    The frames between samples take values on the straight line between them. Parts: `motion`, `change`.

    Raises:
        InputError: the picture has another shape than the normal footage.
    """
    stop = reader.n_frames if stop is None else stop
    times, maps = [], []
    for _, t, found in samples(reader, start, stop, advance):
        times.append(t)
        maps.append(found)
    ratio = windows(np.stack(maps))
    if ratio.shape[2:] != model.cells:
        raise InputError(
            f"{reader.path}: pictures of {reader.width} x {reader.height} px have another shape than the normal footage",
            "normal footage must come from the same camera",
        )
    found = evidence(ratio, model.scale)
    t = reader.pts[start:stop]
    between = lambda values: np.interp(t, times, values).astype(np.float32)  # noqa: E731
    nearest = np.searchsorted((np.array(times[1:]) + np.array(times[:-1])) / 2, t)
    return FrameScores(
        t=t.copy(),
        frame=np.arange(start, stop, dtype=np.int64),
        score=between(squashed(found.sum(0), model.typical, model.rare)),
        parts={name: between(squashed(part, 0.0, high)) for name, part, high in zip(PARTS, found, model.part_rare, strict=True)},
        heat=heat(ratio, model)[nearest],
    )


def samples(reader: VideoReader, start: int, stop: int, advance: Callable[[int], None]) -> Iterator[tuple[int, float, np.ndarray]]:
    """(number, seconds, (2, h, w) float32) about ten times a second: mean flow in px per 0.1 s and mean change in levels per 0.1 s.

    The first sample has the maps of the second.
    """
    pts = reader.pts[start:stop]
    interval = float(np.median(np.diff(pts))) if len(pts) > 1 else 1 / RATE_HZ
    every = max(1, round(1 / (RATE_HZ * max(interval, 1e-3))))
    flow = DisFlow()
    previous, before, first = None, 0.0, None
    for number, t, image in reader.frames(start, stop, short_side=SHORT_SIDE_PX):
        advance(1)
        if (number - start) % every:
            continue
        grey = np.rint(image @ _GREY).astype(np.uint8)
        if previous is None:
            first = (number, t)
        else:
            pace = 1 / (RATE_HZ * max(t - before, 1e-3))
            length = np.linalg.norm(flow(previous, grey), axis=-1)
            change = np.abs(previous.astype(np.float32) - grey)
            maps = np.stack([cell_means(length), cell_means(change)]) * np.float32(pace)
            if first is not None:
                yield *first, maps
                first = None
            yield number, t, maps
        previous, before = grey, t
    if first is not None:  # a video of one sample
        yield *first, np.zeros((2, *cell_means(previous).shape), np.float32)


def cell_means(picture: np.ndarray) -> np.ndarray:
    """Means over squares of CELL_PX, (H, W) -> (H // CELL_PX, W // CELL_PX) float32; what is left over at the edges is not used."""
    rows, columns = max(1, picture.shape[0] // CELL_PX), max(1, picture.shape[1] // CELL_PX)
    cut = picture[: rows * CELL_PX, : columns * CELL_PX].astype(np.float32)
    return cut.reshape(rows, cut.shape[0] // rows, columns, cut.shape[1] // columns).mean((1, 3))


def windows(maps: np.ndarray) -> np.ndarray:
    """Means over WINDOW_CELLS x WINDOW_CELLS cells and WINDOW_S, centred, cut off at the borders; (n, 2, h, w) float32, same shape."""
    for axis, width in ((0, round(WINDOW_S * RATE_HZ)), (2, WINDOW_CELLS), (3, WINDOW_CELLS)):
        maps = centred_mean(maps, axis, width)
    return maps


def centred_mean(values: np.ndarray, axis: int, width: int) -> np.ndarray:
    """Mean of the `width` (odd) values around each one along an axis, of fewer at the ends."""
    n = values.shape[axis]
    total = np.cumsum(np.moveaxis(values, axis, 0), 0, dtype=np.float64)
    total = np.concatenate([np.zeros_like(total[:1]), total])
    low, high = np.maximum(np.arange(n) - width // 2, 0), np.minimum(np.arange(n) + width // 2 + 1, n)
    means = (total[high] - total[low]) / (high - low).reshape(-1, *([1] * (total.ndim - 1)))
    return np.moveaxis(means, 0, axis).astype(np.float32)


def usual(videos: list[np.ndarray]) -> Scale:
    """What is usual in maps of windows, (n, 2, h, w) each."""
    rows = np.stack([row_scale(videos, part) for part in range(len(PARTS))])
    highest = np.concatenate([peaks(maps, rows) for maps in videos], 1)
    low, middle, high = np.quantile(highest, [0.1, 0.5, 0.9], axis=1)
    return Scale(rows, middle, np.maximum(high - low, 1e-3))


def row_scale(videos: list[np.ndarray], part: int) -> np.ndarray:
    """(h,) a straight line through what moving windows of each row reach once in a hundred times; where too few rows saw motion, level."""
    height = videos[0].shape[2]
    found = np.full(height, np.nan)
    for row in range(height):
        moving = np.concatenate([maps[:, part, row][maps[:, 0, row] > _MOVING_PX] for maps in videos])
        if len(moving) >= _ENOUGH:
            found[row] = np.quantile(moving, _HIGH)
    known = np.flatnonzero(~np.isnan(found))
    floor = _FLOOR[part]
    if len(known) == 0:
        return np.full(height, max(floor, float(np.quantile(np.concatenate([maps[:, part].ravel() for maps in videos]), _HIGH))))
    if len(known) < 3:
        return np.full(height, max(floor, float(found[known].mean())))
    line = np.polyval(np.polyfit(known, found[known], 1), np.arange(height))
    return np.maximum(line, max(floor, 0.5 * float(found[known].min())))


def peaks(maps: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(2, n) the highest ratio of a window to what is usual in its row."""
    return np.stack([(maps[:, part] / rows[part][None, :, None]).reshape(len(maps), -1).max(1) for part in range(len(PARTS))])


def evidence(maps: np.ndarray, scale: Scale) -> np.ndarray:
    """(2, n) how far each frame's most unusual window is above the middle of normal frames, in spreads."""
    return (peaks(maps, scale.rows) - scale.middle[:, None]) / scale.spread[:, None]


def rare(values: np.ndarray) -> float:
    """What one value in a thousand reaches, the tail taken as exponential beyond the highest tenth."""
    high = float(np.quantile(values, 0.9))
    beyond = values[values > high] - high
    return high + max(float(beyond.mean()) if len(beyond) else 0.0, 1e-3) * float(np.log(0.1 / _RARE))


def squashed(values: np.ndarray, typical: float, high: float) -> np.ndarray:
    """To [0, 1]: 0.02 at what is typical, 0.5 at what is rare."""
    return 1 / (1 + np.exp(np.clip(-4 * (values - high) / max(high - typical, 1e-3), -60, 60)))


def heat(ratio: np.ndarray, model: NormalModel) -> np.ndarray:
    """(n, h', w') uint8, at half the cells: evidence of each window, 255 at twice what is rare."""
    scale, rows = model.scale, model.scale.rows
    parts = [(ratio[:, i] / rows[i][None, :, None] - scale.middle[i]) / scale.spread[i] for i in range(len(PARTS))]
    level = np.clip((parts[0] + parts[1]) / (2 * max(model.rare, 1e-3)), 0, 1)
    n, height, width = level.shape
    even = np.pad(level, ((0, 0), (0, height % 2), (0, width % 2)))
    return np.rint(even.reshape(n, -(-height // 2), 2, -(-width // 2), 2).max((2, 4)) * 255).astype(np.uint8)
