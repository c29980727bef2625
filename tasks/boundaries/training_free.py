"""The training-free detector: event boundaries from what changes in the picture, without training, download or GPU.

Three kinds of evidence, all of them logs of ratios and therefore free of units of a particular camera:

- the step: the change from one sample to the next over the usual change of its neighbours, where the picture changes most. It finds cuts
  and the small jumps of a person who begins something else. A change that does not last (a flash, a broken frame) is not one, and one of
  the whole picture by less than half a pixel, as codecs make it at their keyframes, has to be stronger.
- the change that lasts (`lasting.py`): the share of the picture that settles into something else, over what is usual around it. If all
  pixels change together it is a dissolve or a fade, otherwise something has moved: an event.
- the turn of a camera that begins to move, stops or changes its direction (`camera.py`).

The score is 0.5 where the evidence reaches a threshold that was chosen once for all videos.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.boundaries.camera import CameraTurns
from tasks.boundaries.lasting import LastingChange
from tasks.boundaries.novelty import Novelty, around, top_mean
from tasks.boundaries.result import KINDS, Boundary, Scores
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
COLOUR_STEP = 10.0
"""Colours of pictures that differ by less than this, in the units of STEP_FLOOR, say nothing: darkness has few levels."""
PUMPED_PX = 0.2, 0.5
PUMPED_PENALTY = 0.4
"""A step by which half of the cells move by more than the first and the most changed ones by less than the second may be the codec's."""
EDGE_FLOOR = 4.0
LOCAL = 50.0
"""A step this many times as large in the most changed tenth as in the middle of all cells is within a shot."""
CUT, DISSOLVE, EVENT = range(len(KINDS))
LASTING = 0.1
EVIDENCE = 0.85
STEEPNESS = 6.0
AROUND_S = 2.5
"""To both sides: of lasting changes, what is usual is their median there."""
SHARE_FLOOR = 0.01
BLEND = 0.25
"""Lasting changes nearer to a blend than this are dissolves."""
USUAL = {DISSOLVE: 0.55, EVENT: 0.9}
"""By how much, as a log, a lasting change is above what is usual around it."""
SHARE = {DISSOLVE: 0.012, EVENT: 0.045}
"""Share of the picture that it changes."""
TURN = 0.6
APART_S = 1.0
"""Of slow changes, the strongest counts within this time to both sides."""

_YCC = np.array([[0.299, -0.169, 0.5], [0.587, -0.331, -0.419], [0.114, 0.5, -0.081]], np.float32)
_YCC_START = np.array([0.0, -128.0, -128.0], np.float32)


def score_video(reader: VideoReader, advance: Callable[[int], None] = lambda n: None, start: int = 0, stop: int | None = None) -> Scores:
    """Scores of one video, streamed: memory does not grow with its length but for 100 bytes per 1/15 s.

    Args:
        reader: an open video.
        advance: told the number of frames read.
        start, stop: the frames that count.

    Returns:
        a score in [0, 1] and a kind for about every 1/15 s, at the frame where the picture changes most in that time.
    """
    stop = reader.n_frames if stop is None else stop
    pts = reader.pts[start:stop]
    every = sampling_step(pts)
    interval = float(np.median(np.diff(pts))) * every if len(pts) > 1 else 1 / RATE_HZ
    novelty, change, camera = Novelty([NEIGHBOURS]), LastingChange(interval), CameraTurns(interval)
    steps = [Step(0.0, 0.0, 0.0, False)]
    frames: list[int] = []
    previous = sampled = None
    most, where = -1.0, start
    for number, _, image in reader.frames(start, stop, short_side=SHORT_SIDE_PX):
        picture = image.astype(np.float32) @ _YCC
        if previous is not None and (moved := pooled(np.abs(picture - previous))) > most:
            most, where = moved, number
        if (number - start) % every == 0:
            if sampled is not None:
                steps.append(step_between(sampled, picture))
            frames.append(where)
            novelty.add(cell_means(picture))
            change.add(picture[..., 0])
            camera.add(picture[..., 0])
            sampled, most = picture, -1.0
        previous = picture
        advance(1)
    half = max(1, round(APART_S / interval))
    sudden, kind = steps_evidence(steps, novelty.finish()[0])
    slow, slow_kind = change_evidence(*change.finish(), half_of_usual=max(1, round(AROUND_S / interval)))
    turn = camera.finish() - TURN + EVIDENCE
    evidence, kind = together(sudden, kind, [(slow, slow_kind), (turn, np.full(len(turn), EVENT))], half)
    score = 1 / (1 + np.exp(-STEEPNESS * (np.maximum(evidence, -5.0) - EVIDENCE)))
    numbers = np.array(frames, np.int64)
    return Scores(reader.pts[numbers], numbers, score.astype(np.float32), kind.astype(np.uint8))


@dataclass(frozen=True)
class Step:
    """The change from one sample to the next.

    Attributes:
        top: mean of the most changed tenth of the cells, levels.
        middle: median of all cells, levels.
        colour: distance of the colour histograms, in [0, 2].
        pumped: whether a codec may have made it, as at a keyframe.
    """

    top: float
    middle: float
    colour: float
    pumped: bool


def step_between(before: np.ndarray, after: np.ndarray) -> Step:
    """The step between two (H, W, 3) float32 pictures in Y, Cb, Cr."""
    cells = cell_means(np.abs(after - before).sum(-1))
    top, middle = float(top_mean(cells[None])[0]), float(np.median(cells))
    colour = float(np.abs(colour_histogram(after) - colour_histogram(before)).sum())
    edges = cell_means(sum(np.abs(np.diff(before, axis=axis, prepend=before.take([0], axis))).sum(-1) ** 2 for axis in (0, 1)) ** 0.5)
    moved = cells / (edges + EDGE_FLOOR)  # about px, where structure has moved
    most = np.argsort(-cells)[: max(1, len(cells) // 10)]
    pumped = np.median(moved) > PUMPED_PX[0] and cells[most].sum() < PUMPED_PX[1] * (edges[most] + EDGE_FLOOR).sum()
    return Step(top, middle, colour if top >= COLOUR_STEP else 0.0, bool(pumped))


def steps_evidence(steps: list[Step], lasting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of sudden changes.

    Args:
        steps: (n,) to each sample from the one before.
        lasting: (n,) novelty at the shortest scale.

    Returns:
        (n,) float64, -inf where there is none; (n,) place in KINDS: a cut, or where little of the picture changes an event.
    """
    top, middle, colour = (np.array([getattr(step, name) for step in steps]) for name in ("top", "middle", "colour"))
    evidence = np.maximum(jumps(top, STEP_FLOOR), jumps(colour, COLOUR_FLOOR) + COLOUR_BONUS)
    evidence = evidence - PUMPED_PENALTY * np.array([step.pumped for step in steps])
    return np.where(lasting > LASTING, evidence, -np.inf), np.where(top > LOCAL * np.maximum(middle, 0.1), EVENT, CUT)


def change_evidence(share: np.ndarray, unlike: np.ndarray, half_of_usual: int) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of lasting changes.

    Args:
        share, unlike: (n,) of `LastingChange.finish`.
        half_of_usual: samples to both sides that say what is usual.

    Returns:
        (n,) float64, -inf where nothing changes or it is not known; (n,) place in KINDS, dissolve or event.
    """
    known = np.flatnonzero(np.isfinite(share))
    usual = np.zeros(len(share))
    for t in known:
        near = share[max(known[0], t - half_of_usual) : min(known[-1], t + half_of_usual) + 1]
        usual[t] = np.median(near)
    share = np.nan_to_num(share)
    above = np.log((share + SHARE_FLOOR) / (usual + SHARE_FLOOR))
    kind = np.where(unlike < BLEND, DISSOLVE, EVENT)
    least, part = (np.where(kind == DISSOLVE, limits[DISSOLVE], limits[EVENT]) for limits in (USUAL, SHARE))
    with np.errstate(divide="ignore"):
        return np.minimum(above - least, np.log(share / part)) + EVIDENCE, kind


def together(sudden: np.ndarray, kind: np.ndarray, slow: list[tuple[np.ndarray, np.ndarray]], half: int) -> tuple[np.ndarray, np.ndarray]:
    """All evidence as one curve: a slow change is one boundary, where nothing slow within `half` samples is stronger and no step stands.

    Args:
        sudden, kind: (n,) of `steps_evidence`.
        slow: curves and kinds of slow changes.

    Returns:
        (n,) evidence, (n,) place in KINDS.
    """
    highest, step_near = np.maximum.reduce([curve for curve, _ in slow]), around(sudden, half) >= EVIDENCE
    evidence = sudden
    for curve, told in slow:
        there = inner_peaks(curve) & (curve >= around(highest, half)) & (curve > evidence) & ~step_near
        evidence, kind = np.where(there, curve, evidence), np.where(there, told, kind)
    return evidence, kind


def inner_peaks(curve: np.ndarray) -> np.ndarray:
    """Whether each value is neither -inf nor beside one: where a curve begins or ends it has no peak; (n,) -> (n,) bool."""
    known = np.pad(np.isfinite(curve), 1)
    return known[1:-1] & known[:-2] & known[2:]


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
    """(bins^3,) float64 that sum to 1, of an (H, W, 3) float32 picture in Y, Cb, Cr.

    Brightness is shared between the two nearest bins: a picture that fades passes no border between them all at once.
    """
    places = ((picture - _YCC_START) * (COLOUR_BINS / 256)).clip(0, COLOUR_BINS - 1)
    luma, chroma = places[..., 0], places[..., 1:].astype(np.int64)
    low = np.minimum(luma.astype(np.int64), COLOUR_BINS - 2)
    codes = (low * COLOUR_BINS + chroma[..., 0]) * COLOUR_BINS + chroma[..., 1]
    upper = (luma - low).ravel().astype(np.float64)
    both = np.concatenate([codes.ravel(), codes.ravel() + COLOUR_BINS**2])
    return np.bincount(both, np.concatenate([1 - upper, upper]), COLOUR_BINS**3) / codes.size


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
    kinds = [None] * len(scores) if scores.kind is None else [KINDS[place] for place in scores.kind]
    return [Boundary(float(scores.t[i]), int(scores.frame[i]), float(scores.score[i]), kinds[i]) for i in sorted(kept)]
