"""Small localisers, and clips with events that they can learn in seconds."""

from pathlib import Path

import numpy as np
import torch

from tasks.core.data.features import write_features
from tasks.core.data.grid import Grid
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.localization.config import FinetuneConfig
from tasks.localization.method import EventTraining

DIMS = {"visual": 12, "audio": 10}
SMALL = {
    "width": 16,
    "heads": 2,
    "stem": 1,
    "layer_scale": None,
    "drop_path": 0.0,
    "alignment": {"heads": 2, "pair_width": 4, "layers": 1},
    "neck": {"blocks": 1},
    "head": {"width": 16, "layers": 2},
}
PROGRESS = Progress(0, 0, 1, 10)


def config(model: dict | None = None, **settings) -> FinetuneConfig:
    """A small configuration; `model` changes SMALL."""
    merged = {**SMALL, **(model or {})}
    for name in ("alignment", "contrast", "neck", "head"):
        merged[name] = {**SMALL.get(name, {}), **(model or {}).get(name, {})}
    optim = {"base_lr": 2e-3, "scale_lr": False, "betas": (0.9, 0.999), "weight_decay": 1e-4, "clip_grad": 1.0}
    return FinetuneConfig(**{"model": merged, "optim": optim, "train": {"epochs": 1, "batch_size": 8}, **settings})


def method(classes: int = 3, seed: int = 0, **settings) -> EventTraining:
    """A small method with seeded weights."""
    torch.manual_seed(seed)
    return EventTraining(config(**settings), DIMS, classes)


def losses(trained: EventTraining, batch: dict, step: int = 0) -> dict[str, torch.Tensor]:
    """Of one step."""
    return trained(batch, BatchRandom(0, step, 0, len(batch["mask"])), PROGRESS)


def batch(lengths: tuple[int, ...] = (40, 29), classes: int = 3, seed: int = 0, events: int = 3) -> dict:
    """Random features with random events, padded to the longest."""
    draws = np.random.default_rng(seed)
    size = max(lengths)
    found = {
        "video": torch.from_numpy(draws.standard_normal((len(lengths), DIMS["visual"], size))),
        "audio": torch.from_numpy(draws.standard_normal((len(lengths), DIMS["audio"], size))),
    }
    found = {name: values.to(torch.get_default_dtype()) for name, values in found.items()}
    starts = [draws.uniform(0, length * 0.6, events) for length in lengths]
    spans = [draws.uniform(2, length * 0.4, events) for length in lengths]
    segments = [torch.from_numpy(np.stack([a, a + b], 1)).to(torch.get_default_dtype()) for a, b in zip(starts, spans, strict=True)]
    labels = [torch.from_numpy(draws.integers(0, classes, events)) for _ in lengths]
    return {**found, "mask": torch.arange(size) < torch.tensor(lengths)[:, None], "segments": segments, "labels": labels}


def sinusoids(clips: int, length: int = 64, seed: int = 0, audio_only_class: bool = False) -> dict:
    """Clips with two overlapping events, each a sine that both streams show while it lasts.

    Of four classes each has a frequency of its own; where `audio_only_class` is set the picture shows the same for all of them.
    """
    draws = np.random.default_rng(seed)
    video, audio, segments, labels = [], [], [], []
    for _ in range(clips):
        picture, sound = (0.1 * draws.standard_normal((dim, length)) for dim in (DIMS["visual"], DIMS["audio"]))
        kinds = draws.permutation(4)[:2]
        first = draws.uniform(4, 20)
        starts = [first, first + draws.uniform(6, 12)]
        ends = [start + draws.uniform(14, 24) for start in starts]
        for kind, start, end in zip(kinds, starts, ends, strict=True):
            at = np.arange(length)
            inside = (at >= start) & (at <= end)
            shown = 0 if audio_only_class else kind
            picture[2 * shown : 2 * shown + 2] += inside * (1 + 0.5 * np.sin(at * (0.5 + 0.3 * shown)))
            sound[2 * kind : 2 * kind + 2] += inside * (1 + 0.5 * np.cos(at * (0.4 + 0.3 * kind)))
        video.append(picture)
        audio.append(sound)
        segments.append(torch.tensor(list(zip(starts, ends, strict=True)), dtype=torch.float32))
        labels.append(torch.from_numpy(kinds.astype(np.int64)))
    return {
        "video": torch.from_numpy(np.stack(video)).float(),
        "audio": torch.from_numpy(np.stack(audio)).float(),
        "mask": torch.ones(clips, length, dtype=torch.bool),
        "segments": segments,
        "labels": labels,
    }


def write_clips(folder: Path, clips: int, length: int = 64, seed: int = 0, name: str = "clip") -> list[str]:
    """The clips of `sinusoids` as two folders of features, `visual` and `audio`, and their events in `events.csv`; its lines."""
    made, grid = sinusoids(clips, length, seed), Grid(0.5, 1.0)
    lines = ["path,label,start,end"]
    for number in range(clips):
        for stream, kind in (("visual", "video"), ("audio", "audio")):
            encoder = {"reference": stream, "weights_hash": stream}
            write_features(folder / stream, f"{name}{number}", made[kind][number].T.numpy(), grid, encoder)
        seconds = made["segments"][number] * grid.stride_s + grid.span_s / 2
        for (start, end), label in zip(seconds.tolist(), made["labels"][number].tolist(), strict=True):
            lines.append(f"{name}{number}.mp4,c{label},{start:.4f},{end:.4f}")
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    return lines


def train(trained: EventTraining, clips: dict, steps: int, lr: float = 3e-3) -> list[float]:
    """Losses of so many steps on the same clips."""
    optimizer = torch.optim.AdamW(trained.parameters(), lr, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    trained.train()
    history = []
    for step in range(steps):
        loss = losses(trained, clips, step)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        history.append(loss.item())
    return history
