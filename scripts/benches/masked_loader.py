"""Clips per second and core: this suite's loader and augmentation beside decord with one PIL picture per frame.

The plain loader is what public masked-autoencoder code does: open with decord, read the frames of a clip, crop, resize and flip each as a
PIL picture, stack, normalise. Both make (16, 3, S, S) float32 clips, frame stride 4, multi-scale crops, one thread; seconds are CPU
seconds of the process, so that other work on the machine counts less.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FRAMES, STRIDE, BATCH = 16, 4, 8


def plain_loader(side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[list[str], random.Random], Any]:
    import decord
    import numpy as np
    import torch
    from PIL import Image

    def clip(path: str, rng: random.Random) -> torch.Tensor:
        video = decord.VideoReader(path, num_threads=1)
        start = rng.randrange(max(1, len(video) - (FRAMES - 1) * STRIDE))
        frames = video.get_batch([min(len(video) - 1, start + STRIDE * i) for i in range(FRAMES)]).asnumpy()
        height, width = frames.shape[1:3]
        size = int(min(height, width) * rng.choice((1, 0.875, 0.75, 0.66)))
        left, top, flip = rng.randrange(width - size + 1), rng.randrange(height - size + 1), rng.random() < 0.5
        pictures = [Image.fromarray(f).crop((left, top, left + size, top + size)).resize((side, side), Image.BILINEAR) for f in frames]
        if flip:
            pictures = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]
        stacked = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float().div(255)
        return (stacked - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    return lambda paths, rng: torch.stack([clip(path, rng) for path in paths])


def our_loader(side: int, repeats: int) -> tuple[Callable[[list[str], random.Random], Any], Any]:
    from tasks.core.clips.augment import TrainTransform
    from tasks.core.clips.config import AugmentConfig, DataConfig
    from tasks.core.clips.loader import ClipDataset, collate
    from tasks.core.data.manifest import Row

    augment = AugmentConfig(crop="multiscale")
    data = DataConfig(train=["unused"], clip={"frames": FRAMES, "stride_frames": STRIDE}, repeats=repeats, decoder="pyav")
    transform = TrainTransform(augment, side)

    def load(paths: list[str], rng: random.Random) -> Any:
        rows = ClipDataset([Row(path=path) for path in paths], data, None)
        samples = [rows[i, rng.randrange(10**6)] for i in range(len(paths))]
        return transform(collate(samples))

    return load, augment


def table(args: argparse.Namespace) -> None:
    import decord
    import torch

    from tasks.core.data.parsing import VIDEO_SUFFIXES
    from tasks.core.video.open import open_video

    torch.set_num_threads(1)
    ours, augment = our_loader(args.side, 1)
    four, _ = our_loader(args.side, 4)
    plain = plain_loader(args.side, augment.mean, augment.std)
    kinds = {"plain": (plain, 1), "ours": (ours, 1), "ours, 4 clips a video": (four, 4)}
    print(
        f"Loader: {FRAMES} frames, stride {STRIDE}, crops of {args.side} px, one thread, decord {decord.__version__}, median of "
        f"{args.repeats}\n\n| videos | plain, clips/s | ours, clips/s | times | ours, 4 clips a video, clips/s | times |\n"
        "|---|---|---|---|---|---|"
    )
    for folder in args.data:
        paths = sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        paths = [p for p in paths[:: max(1, len(paths) // args.videos)][: args.videos] if decord_reads(p)]
        for path in paths:
            with open_video(path, "pyav") as video:  # its index is made once in a run's life
                shape = f"{video.width}x{video.height}"
        rates = {name: [] for name in kinds}
        for turn in range(args.repeats + 1):
            for name, (load, clips) in kinds.items():
                rng, began = random.Random(turn), time.process_time()
                for at in range(0, len(paths), BATCH):
                    load(paths[at : at + BATCH], rng)
                if turn:
                    rates[name].append(clips * len(paths) / (time.process_time() - began))
        p, o, f = (statistics.median(rates[name]) for name in kinds)
        print(f"| {Path(folder).name}, {len(paths)} of about {shape} | {p:.1f} | {o:.1f} | {o / p:.2f} | {f:.1f} | {f / p:.2f} |")


def decord_reads(path: str) -> bool:
    """Whether the plain loader gets through this file at all."""
    import decord

    try:
        video = decord.VideoReader(path, num_threads=1)
        video.get_batch([len(video) - 1])
    except Exception:
        return False
    return True
