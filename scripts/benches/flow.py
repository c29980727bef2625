"""Our TV-L1 beside OpenCV's TV-L1 and DIS on the same frames: time per pair, and how far the flows lie from OpenCV's TV-L1.

The methods take turns, so that a busy machine slows all of them. A set's ratio compares the fastest turns, which are disturbed least.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

from benches import DATA

SETS = ("ped2/test", "gestures", "fights", "clips")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs="+", default=[str(DATA / name) for name in SETS], help="folders of videos, each reported by itself")
    parser.add_argument("--device", default=None, help="of ours: cpu, cuda; by default cuda where there is one")
    parser.add_argument("--size", default="360x240", help="WIDTHxHEIGHT of the frames, px")
    parser.add_argument("--pairs", type=int, default=None, help="pairs per folder, from videos evenly spaced in it; default 8, on CUDA 96")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every method, after one that does not count")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch and of OpenCV")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=None, help="torch.compile; by default only on CUDA")


def run(args: argparse.Namespace) -> None:
    import cv2
    import torch

    from tasks.core.flow.flow import opencv_flow, tvl1

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    n = args.pairs or (96 if device.type == "cuda" else 8)

    def ours(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return tvl1(first.to(device), second.to(device), compiled=args.compiled).cpu()

    methods = {"OpenCV TV-L1": opencv_flow, "OpenCV DIS": lambda first, second: opencv_flow(first, second, "dis"), "our TV-L1": ours}
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the same {args.threads} threads"
    print(f"{n} pairs of {args.size} px per folder, best of {args.repeats}; OpenCV on {args.threads} threads, ours on {where}\n")
    print("| videos | method | ms per pair, best (median) | OpenCV TV-L1's time over it | px from OpenCV TV-L1: mean | 99 % |")
    print("|---|---|---|---|---|---|")
    totals = dict.fromkeys(methods, 0.0)
    for folder in map(Path, args.data):
        title = folder.relative_to(DATA) if folder.is_relative_to(DATA) else folder
        first, second = frame_pairs(folder, n, args.size)
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        flows = {}
        for _ in range(args.repeats + 1):
            for name, method in methods.items():
                started = time.perf_counter()
                flows[name] = method(first, second)
                seconds[name].append((time.perf_counter() - started) / len(first))
        fastest = {name: min(taken[1:]) for name, taken in seconds.items()}
        for name in methods:
            totals[name] += fastest[name]
            off = (flows[name] - flows["OpenCV TV-L1"]).norm(dim=1).flatten()
            off_99 = off.kthvalue(max(1, int(0.99 * len(off)))).values
            print(
                f"| {title} | {name} | {fastest[name] * 1e3:.1f} ({statistics.median(seconds[name][1:]) * 1e3:.1f}) "
                f"| {fastest['OpenCV TV-L1'] / fastest[name]:.1f} | {off.mean():.4f} | {off_99:.3f} |",
                flush=True,
            )
    ratios = {name: totals["OpenCV TV-L1"] / totals[name] for name in methods}
    print(f"\nall folders: our TV-L1 takes 1/{ratios['our TV-L1']:.1f} of OpenCV TV-L1's time, OpenCV DIS 1/{ratios['OpenCV DIS']:.1f}")


def frame_pairs(folder: Path, n: int, size: str):
    """`n` pairs of consecutive frames, each from the middle of a video: two grey `(n, H, W)` uint8 tensors."""
    import cv2
    import torch

    from tasks.core.data.parsing import VIDEO_SUFFIXES
    from tasks.core.flow.flow import to_grey
    from tasks.core.video.open import open_video

    videos = sorted(file for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        sys.exit(f"no videos in {folder}; name folders with --data")
    width, height = map(int, size.split("x"))
    found = []
    for number in range(n):
        place = number * len(videos) / n
        with open_video(videos[int(place)]) as video:
            at = min(int((0.25 + 0.5 * (place % 1)) * len(video)), len(video) - 2)
            found.append([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in video.get([at, at + 1])])
    frames = torch.stack([torch.stack([torch.from_numpy(frame) for frame in pair]) for pair in found])
    return to_grey(frames).unbind(1)
