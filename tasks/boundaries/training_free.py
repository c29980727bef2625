"""The training-free detector: event boundaries from self-similarity in time, without training, download or GPU.

A boundary is a place where what is before and what is after are unlike each other, compared with how much each side changes within
itself. Two kinds of evidence, both ratios and therefore free of units of a particular camera:

- the step: the change from one sample to the next over the usual change of its neighbours, where the picture changes most. It finds cuts
  and the small jumps of a person who begins something else. A change that does not last (a flash, a broken frame) is not one.
- novelty at several time scales (Foote, "Automatic audio segmentation using a measure of audio novelty", ICME 2000): the mean distance
  between the samples of the two sides over the mean distance within them. It finds dissolves and slow transitions.

The score is 0.5 where the evidence reaches a threshold that was chosen once, on sequences made of other clips, for all videos.
"""

from collections.abc import Callable

import numpy as np

from tasks.boundaries.novelty import Novelty, around, top_mean
from tasks.boundaries.result import Boundary, Scores
from tasks.core.video.reader import VideoReader

SHORT_SIDE_PX = 40
CELL_PX = 5
RATE_HZ = 15.0
NEIGHBOURS = 3
STEP_FLOOR = 2.0
"""Steps below this (levels out of 255, three channels added) are noise of camera and codec."""
COLOUR_BINS = 8
COLOUR_FLOOR = 0.3
"""The same for the distance of two colour histograms, which lies in [0, 2]."""
COLOUR_BONUS = 0.1
SCALES_S = (0.5, 1.0, 2.0)
"""Half a window of the novelty curves, seconds."""
NOVELTY_PENALTY = 0.2
"""The bonus and the malus make the three kinds of evidence comparable."""
LASTING = 0.1
EVIDENCE = 0.85
STEEPNESS = 6.0

_YCC = np.array([[0.299, -0.169, 0.5], [0.587, -0.331, -0.419], [0.114, 0.5, -0.081]], np.float32)
_YCC_START = np.array([0.0, -128.0, -128.0], np.float32)


def score_video(reader: VideoReader, advance: Callable[[int], None] = lambda n: None, start: int = 0, stop: int | None = None) -> Scores:
    """Scores of one video, streamed: memory does not grow with its length but for 20 bytes per 1/15 s.

    Args:
        reader: an open video.
        advance: told the number of frames read.
        start, stop: the frames that count.

    Returns:
        a score in [0, 1] for about every 1/15 s, at the frame where the picture changes most in that time.
    """
    stop = reader.n_frames if stop is None else stop
    pts = reader.pts[start:stop]
    every = sampling_step(pts)
    interval = float(np.median(np.diff(pts))) * every if len(pts) > 1 else 1 / RATE_HZ
    novelty = Novelty([NEIGHBOURS] + [max(NEIGHBOURS, round(scale / interval)) for scale in SCALES_S])
    steps, colours = [0.0], [0.0]
    frames: list[int] = []
    previous = sampled = None
    most, where = -1.0, start
    for number, _, image in reader.frames(start, stop, short_side=SHORT_SIDE_PX):
        picture = image.astype(np.float32) @ _YCC
        if previous is not None and (moved := pooled(np.abs(picture - previous))) > most:
            most, where = moved, number
        if (number - start) % every == 0:
            colour = colour_histogram(picture)
            if sampled is not None:
                steps.append(pooled(np.abs(picture - sampled[0])))
                colours.append(float(np.abs(colour - sampled[1]).sum()))
            frames.append(where)
            novelty.add(cell_means(picture))
            sampled, most = (picture, colour), -1.0
        previous = picture
        advance(1)
    lasting, *slow = novelty.finish()
    sudden = np.maximum(jumps(np.array(steps), STEP_FLOOR), jumps(np.array(colours), COLOUR_FLOOR) + COLOUR_BONUS)
    sudden = np.where(lasting > LASTING, sudden, -np.inf)
    slow = [curve - NOVELTY_PENALTY for curve in slow]
    highest = np.maximum.reduce([sudden, *slow])
    evidence = sudden
    for curve, half in zip(slow, novelty.halves[1:], strict=True):
        # a slow change is one boundary: where nothing within its window, at any scale, is stronger
        evidence = np.maximum(evidence, np.where(curve >= around(highest, half), curve, -np.inf))
    score = 1 / (1 + np.exp(-STEEPNESS * (np.maximum(evidence, -5.0) - EVIDENCE)))
    numbers = np.array(frames, np.int64)
    return Scores(reader.pts[numbers], numbers, score.astype(np.float32))


def sampling_step(pts: np.ndarray) -> int:
    """Frames from one sample to the next for about RATE_HZ samples a second; `pts` (n,) seconds."""
    if len(pts) < 2:
        return 1
    return max(1, round(1 / (RATE_HZ * max(1e-3, float(np.median(np.diff(pts)))))))


def cell_means(picture: np.ndarray) -> np.ndarray:
    """Means over squares of CELL_PX; (H, W, C) or (H, W) float32 -> (cells, C) or (cells,)."""
    rows, columns = max(1, picture.shape[0] // CELL_PX), max(1, picture.shape[1] // CELL_PX)
    cut = picture[: rows * CELL_PX, : columns * CELL_PX]
    means = cut.reshape(rows, cut.shape[0] // rows, columns, cut.shape[1] // columns, -1).mean((1, 3))
    return means.reshape(rows * columns, *picture.shape[2:])


def pooled(difference: np.ndarray) -> float:
    """Mean of the TOP_SHARE of cells that differ most; (H, W, 3) float32 absolute differences, levels."""
    return float(top_mean(cell_means(difference.sum(-1))[None])[0])


def colour_histogram(picture: np.ndarray) -> np.ndarray:
    """(bins^3,) float64 that sum to 1, of an (H, W, 3) float32 picture in Y, Cb, Cr."""
    bins = ((picture - _YCC_START) * (COLOUR_BINS / 256)).clip(0, COLOUR_BINS - 1).astype(np.int64)
    codes = (bins[..., 0] * COLOUR_BINS + bins[..., 1]) * COLOUR_BINS + bins[..., 2]
    return np.bincount(codes.reshape(-1), minlength=COLOUR_BINS**3) / codes.size


def jumps(steps: np.ndarray, floor: float) -> np.ndarray:
    """log of each step over the median of its NEIGHBOURS on both sides, `floor` added to both.

    Args:
        steps: (n,) changes from the sample before; the first means nothing.

    Returns:
        (n,) float64, -inf where there are no two neighbours.
    """
    found = np.full(len(steps), -np.inf)
    for t in range(1, len(steps)):
        around = np.concatenate([steps[max(1, t - NEIGHBOURS) : t], steps[t + 1 : t + 1 + NEIGHBOURS]])
        if len(around) > 1:
            found[t] = np.log((steps[t] + floor) / (np.median(around) + floor))
    return found


def pick(scores: Scores, threshold: float, min_gap_s: float) -> list[Boundary]:
    """Boundaries from scores: the strongest first, none nearer than `min_gap_s` to a stronger one; in order of time."""
    order = [i for i in np.argsort(-scores.score, kind="stable") if scores.score[i] >= threshold]
    kept: list[int] = []
    taken = np.zeros(len(scores), bool)
    for i in order:
        if not taken[i]:
            kept.append(int(i))
            low, high = np.searchsorted(scores.t, [scores.t[i] - min_gap_s + 1e-9, scores.t[i] + min_gap_s - 1e-9])
            taken[low:high] = True
            taken[i] = True
    return [Boundary(float(scores.t[i]), int(scores.frame[i]), float(scores.score[i])) for i in sorted(kept)]
