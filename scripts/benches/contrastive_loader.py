"""Two-stream clips per second and core: mp4 files with a folder of flow beside frames and flow as JPEG files.

The plain loader is what public code for two streams does: every frame and every flow of a video is a JPEG file, a clip is decoded with PIL,
cropped, resized and flipped picture by picture, stacked and normalised. Ours decodes the video, reads the same flow from the folder that
`vid data flow` wrote, and crops both streams together. Both make two (3, 32, S, S) float32 streams of consecutive frames, random crops of
the same distribution, one thread; seconds are CPU seconds of the process, and files have been read once before.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches import DATA, ROOT, VID

FRAMES, BATCH = 32, 4
SCALE, RATIO = (0.2, 1.0), (0.75, 1.3333)

Load = Callable[[list[str], random.Random], Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs="*", default=[str(DATA / name) for name in ("gestures", "fights")], help="folders of videos")
    parser.add_argument("--videos", type=int, default=8, help="videos of each folder [8]")
    parser.add_argument("--side", type=int, default=128, help="px of the clips [128]")
    parser.add_argument("--short-side", type=int, default=171, help="px of frames and flow [171]")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quality", type=int, default=95, help="of the JPEG files [95]")


def run(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(1)
    print(
        f"Two-stream loader: {FRAMES} consecutive frames and their flow, short side {args.short_side} px, crops of {args.side} px, one "
        f"thread, JPEG quality {args.quality}, median of {args.repeats}\n\n"
        "| videos | JPEG files, clips/s | MiB a video | mp4 and flow folder, clips/s | MiB a video | times |\n|---|---|---|---|---|---|"
    )
    for folder in args.data:
        with tempfile.TemporaryDirectory() as work:
            row(Path(folder), Path(work), args)


def row(folder: Path, work: Path, args: argparse.Namespace) -> None:
    """Measures one folder of videos and prints its line."""
    from tasks.core.data.parsing import VIDEO_SUFFIXES

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    videos = [str(path.resolve()) for path in paths[:: max(1, len(paths) // args.videos)][: args.videos]]
    write_flow(videos, work / "flow", args.short_side)
    write_jpegs(videos, work, args)
    loads = {"plain": plain_loader(videos, work, args.side), "ours": our_loader(work / "flow", args)}
    rates: dict[str, list[float]] = {name: [] for name in loads}
    for turn in range(args.repeats + 1):
        for name, load in loads.items():
            rng, began = random.Random(turn), time.process_time()
            for at in range(0, len(videos), BATCH):
                load(videos[at : at + BATCH], rng)
            if turn:
                rates[name].append(len(videos) / (time.process_time() - began))
    plain, ours = (statistics.median(rates[name]) for name in loads)
    jpegs = mebibytes(work.glob("jpeg/*/*/*.jpg")) / len(videos)
    stored = (mebibytes(map(Path, videos)) + mebibytes((work / "flow").rglob("*.zip"))) / len(videos)
    print(f"| {folder.name}, {len(videos)} | {plain:.1f} | {jpegs:.1f} | {ours:.1f} | {stored:.1f} | {ours / plain:.2f} |", flush=True)


def mebibytes(files: Any) -> float:
    return sum(file.stat().st_size for file in files) / 2**20


def write_flow(videos: list[str], folder: Path, short_side: int) -> None:
    """The folder of `vid data flow`, by DIS: how flow is computed makes no difference to how fast it is read."""
    words = ["data", "flow", *videos, "-o", str(folder), "--method", "dis", "--short-side", str(short_side), "--workers", "1", "-q"]
    subprocess.run([*VID, *words], stdout=subprocess.DEVNULL, check=True, cwd=ROOT)


def write_jpegs(videos: list[str], work: Path, args: argparse.Namespace) -> None:
    """Frames and flow of every video as `jpeg/NAME/{rgb,flow}/000000.jpg`."""
    import numpy as np
    from PIL import Image

    from tasks.core.clips.config import FlowInput
    from tasks.core.clips.flow_source import FlowSource
    from tasks.core.video.open import open_video

    source = FlowSource(FlowInput(folder=str(work / "flow")))
    for number, path in enumerate(videos):
        with open_video(path, "pyav") as video:
            every = np.arange(len(video.pts))
            streams = {"rgb": video.get(every, args.short_side), "flow": source.pictures(video, path, every)}
        for name, pictures in streams.items():
            folder = work / "jpeg" / f"{number}" / name
            folder.mkdir(parents=True)
            for place, picture in enumerate(pictures):
                Image.fromarray(picture).save(folder / f"{place:06d}.jpg", quality=args.quality)


def plain_loader(videos: list[str], work: Path, side: int) -> Load:
    import numpy as np
    import torch
    from PIL import Image

    from tasks.core.clips.config import AugmentConfig

    look, folders = AugmentConfig(), {path: work / "jpeg" / f"{number}" for number, path in enumerate(videos)}
    lengths = {path: len(list((folder / "rgb").iterdir())) for path, folder in folders.items()}
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in (look.mean, look.std))

    def clip(path: str, rng: random.Random) -> list[torch.Tensor]:
        folder = folders[path]
        start = rng.randrange(max(1, lengths[path] - FRAMES + 1))
        numbers = [min(lengths[path] - 1, start + step) for step in range(FRAMES)]
        share, ratio, x, y = rng.uniform(*SCALE), rng.uniform(*RATIO), rng.random(), rng.random()
        flip, streams = rng.random() < 0.5, []
        for name in ("rgb", "flow"):
            pictures = []
            for number in numbers:
                picture = Image.open(folder / name / f"{number:06d}.jpg").convert("RGB")
                wide, high = picture.size
                width, height = min(wide, (share * wide * high * ratio) ** 0.5), min(high, (share * wide * high / ratio) ** 0.5)
                left, top = x * (wide - width), y * (high - height)
                picture = picture.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + width, top + height))
                pictures.append(np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else picture))
            streams.append((torch.from_numpy(np.stack(pictures)).permute(3, 0, 1, 2).float().div(255) - mean) / std)
        return streams

    def load(paths: list[str], rng: random.Random) -> list[torch.Tensor]:
        return [torch.stack(stream) for stream in zip(*(clip(path, rng) for path in paths), strict=True)]

    return load


def our_loader(flow: Path, args: argparse.Namespace) -> Load:
    from tasks.core.clips.augment import TrainTransform
    from tasks.core.clips.config import AugmentConfig, DataConfig
    from tasks.core.clips.loader import ClipDataset, collate
    from tasks.core.data.rows import Row

    augment = AugmentConfig(crop="resized", scale=SCALE, ratio=RATIO, flip=0.5, flip_u=False)
    stored = {"folder": str(flow), "frames": True}
    clip = {"frames": FRAMES, "stride_frames": 1}
    data = DataConfig(train=["unused"], clip=clip, flow=stored, short_side=args.short_side, decoder="pyav")
    transform = TrainTransform(augment, args.side)

    def load(paths: list[str], rng: random.Random) -> Any:
        rows = ClipDataset([Row(path) for path in paths], data, None)
        samples = [rows[place, rng.randrange(10**6)] for place in range(len(paths))]
        skipped = [sample.skipped for sample in samples if sample.skipped]
        if skipped:
            sys.exit(f"a video could not be read: {skipped[0]}")
        return transform.streams(collate(samples))

    return load
