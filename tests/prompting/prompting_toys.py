"""A small CLIP model, and features of frames that its text tower has never met but prompts can learn."""

import csv
from pathlib import Path

import numpy as np
import torch
from clip_toys import clip_folder, networks, tokenizer

from tasks.core.data.features import write_features
from tasks.core.data.grid import Grid
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.clip import TextTransformer
from tasks.core.towers.text import TextTower
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.method import Prompting
from tasks.prompting.names import tokens_of

LABELS = ("red_square", "blue_circle", "running_dog", "resting_cat")
DIM = 20
PROGRESS = Progress(0, 0, 1, 10)
SMALL = {"prompts": {"before": 3, "after": 3}, "temporal": {"layers": 1, "heads": 4}, "frames": 4, "gaps": (1, 2)}


def tower(network: TextTransformer | None = None) -> TextTower:
    """A text tower; None: that of `clip_toys.networks`."""
    network = network or networks()[1].to(torch.get_default_dtype())
    return TextTower(network, tokenizer(), {"reference": "toy", "weights_hash": "0" * 16}, 14.0)


def config(model: dict | None = None, **settings) -> FinetuneConfig:
    """A small configuration; `model` changes SMALL."""
    optim = {"base_lr": 5e-3, "scale_lr": False, "schedule": "constant", "betas": (0.9, 0.999), "weight_decay": 0.01}
    return FinetuneConfig(**{"model": {**SMALL, **(model or {})}, "optim": optim, "train": {"epochs": 2, "batch_size": 4}, **settings})


def method(names: tuple[str, ...] = LABELS, seed: int = 0, text: TextTower | None = None, **settings) -> Prompting:
    """A small method with seeded weights."""
    torch.manual_seed(seed)
    made, text = config(**settings), text or tower()
    tokens = tokens_of([name.replace("_", " ") for name in names], text.tokenizer, text.context - made.model.prompts.added)
    return Prompting(made, text, tokens, DIM)


def batch(n: int = 8, classes: int = len(LABELS), frames: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random clips, a class after the other."""
    draws = np.random.default_rng(seed)
    clips = torch.from_numpy(draws.standard_normal((n, frames, DIM))).to(torch.get_default_dtype())
    return {"clip": clips, "gap": torch.arange(n) % 2, "label": torch.arange(n) % classes}


def losses(trained: Prompting, given: dict, step: int = 0) -> dict[str, torch.Tensor]:
    """Of one step."""
    return trained(given, BatchRandom(0, step, 0, len(given["label"])), PROGRESS)


def write_world(folder: Path, videos: int = 12, length: int = 9, seed: int = 0) -> Path:
    """`features/` of videos whose class shows in their mean, `videos.csv` with their labels (split train and val), and `clip/`."""
    draws = np.random.default_rng(seed)
    centres = draws.standard_normal((len(LABELS), DIM))
    rows = []
    for number in range(videos):
        kind = number % len(LABELS)
        values = (centres[kind] + 0.3 * draws.standard_normal((length, DIM))).astype(np.float32)
        write_features(folder / "features", f"v{number}", values, Grid(0.1, 0.1), {"reference": "toy", "weights_hash": "f" * 16})
        rows.append((f"v{number}.mp4", LABELS[kind], "val" if number >= videos * 2 // 3 else "train"))
    folder.mkdir(exist_ok=True)
    with open(folder / "videos.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    clip_folder(folder / "clip")
    return folder
