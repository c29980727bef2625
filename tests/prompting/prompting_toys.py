"""A small CLIP model, and features of frames that its text tower has never met but prompts can learn."""

import csv
import json
from pathlib import Path

import numpy as np
import torch
import yaml
from clip_toys import clip_folder, networks, tokenizer

from tasks.core.data.features import write_features
from tasks.core.data.grid import Grid
from tasks.core.engine.method import Method, Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.nn.clip import TextTransformer
from tasks.core.towers.text_tower import TextTower
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


def losses(trained: Method, given: dict, step: int = 0) -> dict[str, torch.Tensor]:
    """Of one step."""
    return trained(given, BatchRandom(0, step, 0, len(given["clip"])), PROGRESS)


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
    _write_csv(folder / "videos.csv", ("path", "label", "split"), rows)
    clip_folder(folder / "clip")
    return folder


EVENTS = ((0.5, 1.2), (1.6, 2.4), (2.8, 3.6))
"""Times of the three events of every video of `write_events`, seconds."""


def write_events(folder: Path, videos: int = 12, length: int = 40, seed: int = 0) -> Path:
    """`features/` of videos with EVENTS whose class shows in their features, `events.csv` (split train and val), `proposals.csv` with these
    events of the val videos (score 0.9), one off by 0.3 s (0.5) and one where nothing happens (0.6), and `clip/`.
    """
    draws = np.random.default_rng(seed)
    centres = draws.standard_normal((len(LABELS) + 1, DIM))
    rows, proposals = [], []
    for number in range(videos):
        kinds = draws.integers(0, len(LABELS), len(EVENTS))
        shown = np.full(length, len(LABELS))
        for kind, (start, end) in zip(kinds, EVENTS, strict=True):
            shown[round(start * 10) : round(end * 10)] = kind
            rows.append((f"v{number}.mp4", LABELS[kind], start, end, "val" if number >= videos * 2 // 3 else "train"))
        values = (centres[shown] + 0.3 * draws.standard_normal((length, DIM))).astype(np.float32)
        write_features(folder / "features", f"v{number}", values, Grid(0.1, 0.1), {"reference": "toy", "weights_hash": "f" * 16})
        if number >= videos * 2 // 3:
            proposals += [(f"v{number}", start, end, 0.9) for start, end in EVENTS]
            proposals += [(f"v{number}", EVENTS[0][0] + 0.3, EVENTS[0][1] + 0.3, 0.5), (f"v{number}", 3.7, 3.95, 0.6)]
    folder.mkdir(exist_ok=True)
    _write_csv(folder / "events.csv", ("path", "label", "start", "end", "split"), rows)
    _write_csv(folder / "proposals.csv", ("video", "start", "end", "score"), proposals)
    clip_folder(folder / "clip")
    return folder


SENTENCES = (
    "a red square moves to the left",
    "the dog is running in the rain",
    "a blue circle rests",
    "photographs of the resting cats",
    "we see what they have done",
    "the red circle is photographed",
    "running dogs and resting cats",
    "it is 1999 in the rain",
)


def write_captions(folder: Path, videos: int = 24, length: int = 9, seed: int = 0) -> Path:
    """`features/` of videos that show one of SENTENCES, `captions.csv` with that sentence of each and another for the same (split train,
    and val with one video for each sentence), and `clip/`.
    """
    draws = np.random.default_rng(seed)
    centres = draws.standard_normal((len(SENTENCES), DIM))
    rows = []
    for number in range(videos):
        kind = number % len(SENTENCES)
        values = (centres[kind] + 0.3 * draws.standard_normal((length, DIM))).astype(np.float32)
        write_features(folder / "features", f"v{number}", values, Grid(0.1, 0.1), {"reference": "toy", "weights_hash": "f" * 16})
        split = "val" if number >= videos - len(SENTENCES) else "train"
        rows.append((f"v{number}.mp4", SENTENCES[kind], split))
        if split == "train":
            rows.append((f"v{number}.mp4", f"{SENTENCES[kind]}, is it", split))
    folder.mkdir(exist_ok=True)
    _write_csv(folder / "captions.csv", ("path", "text", "split"), rows)
    clip_folder(folder / "clip")
    return folder


def write_preset(folder: Path, name: str, **settings) -> Path:
    """A preset of `config` for the features and the CLIP model in a folder."""
    made = json.loads(json.dumps(config(**settings).model_dump(mode="json", exclude_unset=True)))
    made |= {"task": "prompting", "verb": "finetune", "clip": str(folder / "clip")}
    made["data"] = {"streams": {"visual": {"folder": str(folder / "features")}}, "workers": 0}
    (folder / name).write_text(yaml.safe_dump(made))
    return folder / name


def _write_csv(file: Path, head: tuple[str, ...], rows: list[tuple]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([head, *rows])
