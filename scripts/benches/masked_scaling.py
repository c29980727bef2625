"""What a clip costs against model size, clip length, mask ratio and number of processes; VideoMAE and TATS, times of a row by turns."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benches import ROOT, VID
from benches.masked_model import interleaved, make_row, row_config, settings, workload_of

ROWS = ("VideoMAE", "TATS")


def table(args: argparse.Namespace) -> None:
    sizes(args)
    processes(args)


def cases(args: argparse.Namespace) -> dict[str, Any]:
    """Configurations by what they differ in from the preset's."""
    from tasks.masked.config import PretrainConfig

    base = settings(args)
    t, side = base.model.frames, base.model.image_size
    found = {"as it is": base}
    for factor in (2, 4):
        found[f"{factor} x frames ({factor * t})"] = settings(args, frames=factor * t)
    found[f"2 x side ({2 * side} px)"] = settings(args, image_size=2 * side)
    found["2 x depth"] = settings(args, depth=2 * base.model.widths()[1])
    if base.model.dim:
        found["2 x width"] = settings(args, dim=2 * base.model.dim)
    for ratio in (0.5, 0.9, 0.95):
        found[f"mask ratio {ratio}"] = PretrainConfig(**(base.model_dump() | {"mask_ratio": ratio}))
    return found


def sizes(args: argparse.Namespace) -> None:
    """Seconds per clip, and how that compares with the growth of the model's operations."""
    clips = args.clips or settings(args).train.batch_size
    print(f"{args.preset}, {clips} clips a step: ms per clip, times the first row, and the same of the model's operations\n")
    print("| | VideoMAE | | operations | TATS | | operations |\n|---|---|---|---|---|---|---|")
    first: dict[str, tuple[float, float]] = {}
    for label, config in cases(args).items():
        seconds = interleaved({name: make_row(name, args, config, clips) for name in ROWS}, args.repeats)
        cost = {name: (seconds[name], workload_of(row_config(name, config)).training) for name in ROWS}
        first = first or cost
        cells = (f"{1e3 * s / clips:.2f} | {s / first[n][0]:.2f} x | {f / first[n][1]:.2f} x" for n, (s, f) in cost.items())
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


def processes(args: argparse.Namespace) -> None:
    """Whole training steps of `vid pretrain`, reading included, in worlds of 1, 2, ... processes with equal batches each."""
    import torch

    from tasks.core.data.synthetic import render_motion_set

    cuda = torch.cuda.is_available()
    most = torch.cuda.device_count() if cuda else len(os.sched_getaffinity(0))
    worlds = [n for n in (1, 2, 4, 8) if n <= most]
    print(f"\n{args.preset}, {'GPUs' if cuda else 'processes of one thread'}: a step of as many times the clips\n")
    print("| processes | clips a step | step, ms | clips/s | of n times one |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        render_motion_set(Path(scratch), 32, seed=0, frames=24, splits={"train": 1.0})
        one = None
        for world in worlds:
            report = profiled(args, Path(scratch), world)
            rate = world * report["clips_per_s"]
            one = one or rate
            clips = round(rate * report["seconds_per_step"])
            print(f"| {world} | {clips} | {1e3 * report['seconds_per_step']:.1f} | {rate:.0f} | {rate / one / world:.2f} |", flush=True)


def profiled(args: argparse.Namespace, videos: Path, world: int) -> dict[str, Any]:
    """What `vid pretrain --profile` says in a world of so many processes; of three runs the fastest, since they share the machine."""
    words = ["pretrain", "--preset", args.preset, "--data", str(videos), "--profile", str(3 * args.repeats), "--json", "-q"]
    words += ["--set", "data.preload=true", "--set", "data.workers=0"]
    words += ["--set", f"train.batch_size={args.clips}"] if args.clips else []
    words += ["--set", f"train.precision={args.precision}"] if args.precision else []
    launch = (
        VID if world == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", "-m", "vidcli"]
    )
    found = []
    for _ in range(3):
        done = subprocess.run(
            [*launch, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return min(found, key=lambda report: report["seconds_per_step"])
