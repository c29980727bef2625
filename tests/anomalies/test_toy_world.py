"""End to end on made-up footage: squares at walking pace are normal, a disc or a square three times as fast is not."""

from pathlib import Path

import anomaly_toys
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tasks.anomalies.config import DetectConfig
from tasks.anomalies.learned import LearnedScorer
from tasks.core.video.open import open_video

FRAMES = 48


def world(seed: int, kind: str = "normal") -> tuple[np.ndarray, np.ndarray]:
    """Frames and labels of a video over one and the same ground; what is anomalous is so from frame 24 on."""
    ground = anomaly_toys.clip(1, 0, speed=0)[0]
    ground[ground == 230] = 100
    rng = np.random.default_rng(seed)
    frames, labels = np.repeat(ground[None], FRAMES, axis=0), np.zeros(FRAMES, np.int64)
    y, x = int(rng.integers(2, anomaly_toys.HEIGHT - 10)), float(rng.integers(0, 40))
    heading = 1.0
    rows, columns = np.mgrid[: anomaly_toys.HEIGHT, : anomaly_toys.WIDTH]
    for t in range(FRAMES):
        odd = kind != "normal" and t >= FRAMES // 2
        labels[t] = odd
        x += heading * (3.0 if odd and kind == "fast" else 1.0)
        if not 0 <= x <= anomaly_toys.WIDTH - 8:  # turn round
            heading, x = -heading, float(np.clip(x, 0, anomaly_toys.WIDTH - 8))
        if odd and kind == "disc":
            frames[t][(rows - y - 4) ** 2 + (columns - x - 4) ** 2 <= 64] = 230
        else:
            frames[t][y : y + 8, int(x) : int(x) + 8] = 230
    return frames, labels


@pytest.fixture(scope="module")
def normal(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world") / "normal"
    for seed in range(8):
        anomaly_toys.write_frames(root / f"v{seed}", world(seed)[0])
    return root


@pytest.mark.slow
def test_what_is_odd_scores_higher(normal, tmp_path):
    pseudo = anomaly_toys.pseudo(tmp_path / "pseudo", normal, ("frames",))
    settings = anomaly_toys.config(
        normal,
        pseudo=str(pseudo),
        model={"width": 0.1},
        optim={"base_lr": 3e-3, "schedule": "cosine"},
        train={"epochs": 5, "batch_size": 8, "max_steps": None, "log_every_steps": 10},
    )
    anomaly_toys.train(tmp_path / "run", settings)
    detector = LearnedScorer(str(tmp_path / "run"), DetectConfig(edges="drop", weights=(0.5, 0.5, 0.0), device="cpu"))
    scores, truth = [], []
    for seed, kind in enumerate(("disc", "fast", "disc", "fast"), 100):
        frames, labels = world(seed, kind)
        with open_video(anomaly_toys.write_frames(tmp_path / f"{kind}{seed}", frames)) as reader:
            found = detector.score(reader)
        scores.append(found.score)
        truth.append(labels[found.frame])
    assert roc_auc_score(np.concatenate(truth), np.concatenate(scores)) > 0.9
