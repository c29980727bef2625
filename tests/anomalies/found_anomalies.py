"""Made-up detections and small videos for the tests of what is written about them."""

from typing import Any

import numpy as np

from tasks.anomalies.intervals import find
from tasks.anomalies.result import AnomalyDetection, FrameScores
from tasks.core.data.synthetic import encode


def scores_of(score, pts=None, parts=("motion", "change"), heat=True) -> FrameScores:
    """Scores of every frame, 10 a second unless `pts` says otherwise; the parts are half and a quarter of the score."""
    score = np.asarray(score, np.float32)
    pts = np.arange(len(score)) / 10 if pts is None else np.asarray(pts, np.float64)
    maps = np.zeros((len(score), 2, 3), np.uint8)
    maps[:, 1, 2] = np.clip(score, 0, 1) * 255
    made = {name: score / 2 ** (i + 1) for i, name in enumerate(parts)}
    return FrameScores(pts, np.arange(len(score)), score, made, maps if heat else None)


def detection(score=(0.1,) * 20 + (0.9,) * 10 + (0.1,) * 20, pts=None, heat=True, **changes: Any) -> AnomalyDetection:
    """A video whose frames score `score`, thresholded at 0.5."""
    scores = changes.pop("scores") if "scores" in changes else scores_of(score, pts, heat=heat)
    last = float(np.median(np.diff(scores.t))) if len(scores) > 1 else 0.1
    values = {
        "path": "videos/yard.mp4",
        "method": "training-free",
        "settings": {"threshold": 0.5, "smoothing_s": 0.0},
        "n_frames": len(scores),
        "fps": 1 / last,
        "duration_s": float(scores.t[-1] - scores.t[0]) + last if len(scores) else 0.0,
        "start_s": float(scores.t[0]) if len(scores) else 0.0,
        "width": 96,
        "height": 64,
        "scores": scores,
        "notes": ["the first and last half second are judged by shorter windows"],
    }
    values |= changes
    if "intervals" not in values and len(scores):
        values["intervals"] = find(scores, 0.5, values["start_s"] + values["duration_s"])
    return AnomalyDetection(**values)


def write_yard(path, fast=(40, 60), frames=90, seed=0):
    """10 frames a second of 96 x 64 px: three people walk to and fro, 1 px a frame; from frame fast[0] to fast[1] one runs."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(90, 110, (64, 96, 1), np.uint8).repeat(3, 2)
    people = [rng.integers(0, 255, (12, 8, 1), np.uint8).repeat(3, 2) for _ in range(3)]
    ways = np.array([0.0, 30.0, 60.0])
    pictures = []
    for i in range(frames):
        ways += [3.0 if fast[0] <= i < fast[1] else 1.0, 1.0, 1.0]
        picture = ground.copy()
        for row, (way, person) in enumerate(zip(ways.astype(int), people, strict=True)):
            x = 88 - abs(way % 176 - 88)
            picture[4 + 20 * row : 16 + 20 * row, x : x + 8] = person
        pictures.append(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(np.stack(pictures), 10))
    return path
