"""Toy footage, pseudo-anomaly folders and settings for the tests of anomaly detection; also runnable: `python anomaly_toys.py FOLDER
VIDEOS [key=value ...]` trains in FOLDER, as one process of a world."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from tasks.anomalies import pretrain
from tasks.anomalies.config import PretrainConfig
from tasks.core.checkpoint import save_model
from tasks.core.engine.run import Run
from tasks.core.nn.config import VitConfig
from tasks.core.nn.vit import VideoTransformer

HEIGHT, WIDTH = 32, 48
TVL1 = {"scales": 2, "warps": 1, "outer_iterations": 1, "inner_iterations": 5}


def clip(frames: int, seed: int, speed: float = 1.0) -> np.ndarray:
    """(frames, HEIGHT, WIDTH, 3) uint8: a bright square that moves to the right over a texture."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(20, 120, (8, 12, 3)).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    out = np.repeat(ground[None], frames, axis=0)
    y, x = int(rng.integers(2, HEIGHT - 12)), int(rng.integers(0, 20))
    for t in range(frames):
        left = int(x + speed * t) % (WIDTH - 8)
        out[t, y : y + 8, left : left + 8] = 230
    return out


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """A folder of pictures, losslessly."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:06d}.png"), frame[..., ::-1])
    return folder


def footage(root: Path, videos: int = 3, frames: int = 20) -> Path:
    """A folder of videos, each a folder of pictures."""
    for number in range(videos):
        write_frames(root / f"v{number}", clip(frames, number))
    return root


def write_flow(folder: Path, flow: np.ndarray) -> None:
    """(n, 2, H, W) px as 16-bit PNG in KITTI's form, written here by its definition."""
    folder.mkdir(parents=True)
    for number, (u, v) in enumerate(flow):
        png = np.stack([np.ones_like(u), v * 64 + 2**15, u * 64 + 2**15], -1)  # OpenCV keeps blue first
        cv2.imwrite(str(folder / f"{number:06d}.png"), png.round().astype(np.uint16))


def pseudo(root: Path, videos: Path, kinds: tuple[str, ...] = ("frames", "flow", "flow_pseudo")) -> Path:
    """A pseudo-anomaly folder as `vid gen-pseudo` writes it: a dark box in every frame, flow of (1, 0), mixed flow of (4, -2)."""
    rows = []
    for video in sorted(videos.iterdir()):
        pictures = sorted(video.iterdir())
        frames = np.stack([cv2.imread(str(file))[..., ::-1] for file in pictures])
        frames[:, 10:20, 10:20] = 0
        if "frames" in kinds:
            write_frames(root / "frames" / video.name, frames)
        for kind, (u, v) in (("flow", (1.0, 0.0)), ("flow_pseudo", (4.0, -2.0))):
            if kind in kinds:
                write_flow(root / kind / video.name, np.tile(np.array([u, v])[None, :, None, None], (len(frames), 1, HEIGHT, WIDTH)))
        spatial = "patch" if "frames" in kinds else "none"
        rows.append({"path": f"frames/{video.name}", "source": str(video), "n_frames": len(frames), "fps": 25, "spatial": spatial})
    with open(root / "videos.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (root / "pseudo.json").write_text(
        json.dumps({"seed": 0, "settings": {"temporal": {"flow": {"warps": 7}}}, "finished": ["v0"], "host": "here"})
    )
    return root


def config(videos: Path | None = None, **changes: Any) -> PretrainConfig:
    """Toy settings; `changes` are top-level keys, with `model`, `data`, `train` and `semantic` merged into what is here."""
    settings: dict[str, Any] = {
        "parts": ["appearance", "motion"],
        "model": {"image_size": 32, "frames": 8, "width": 0.05},
        "flow": {"clip_px": 5.0, "tvl1": TVL1},
        "data": {"train": [str(videos)] if videos else [], "clip": {"frames": 8, "stride_frames": 1}, "preload": True, "workers": 0},
        "optim": {"base_lr": 1e-3},
        "train": {"epochs": 10, "batch_size": 4, "max_steps": 6, "log_every_steps": 1},
    }
    for key, value in changes.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    return PretrainConfig(**settings)


def train(folder: Path, settings: PretrainConfig) -> dict[str, Any]:
    """One `vid pretrain`."""
    run = Run.open(folder, settings, "anomalies", "pretrain", ["test"])
    try:
        return pretrain.run(settings, run)
    finally:
        run.close()


def vit_folder(folder: Path, **changes) -> Path:
    """A masked model of this suite, with random weights."""
    settings = {"size": "tiny", "dim": 32, "depth": 1, "heads": 2, "image_size": 32, "frames": 4, "patch": 8, **changes}
    config = VitConfig(**settings)
    torch.manual_seed(0)
    weights = {f"encoder.{name}": tensor for name, tensor in VideoTransformer(config).state_dict().items()}
    saved = {"task": "masked", "architecture": config.model_dump(), "preprocessing": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}}
    save_model(folder, weights | {"decoder.bias": torch.zeros(1)}, saved, "")
    return folder


if __name__ == "__main__":
    given = dict(pair.split("=") for pair in sys.argv[3:])
    changes = {"pseudo": given["pseudo"], "model": {"norm": given["norm"]}, "train": {"batch_size": int(given["rows"])}}
    train(Path(sys.argv[1]), config(Path(sys.argv[2]), **changes))
