"""TATS with policies of several widths on the demo's motions: pretraining, fine-tuning from ten labels a class, test; a mean over seeds.

Continues where it was stopped.
"""

import argparse
import statistics
from pathlib import Path

from benches import vid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dims", default="null,48,32", help="widths of the policy; null: the encoder's, 96")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default="runs/bench-policy")


def run(args: argparse.Namespace) -> None:
    from tasks.core.data.synthetic import render_motion_set
    from vidcli.demo import FRAMES, N_PER_CLASS, SHARES, SIZE

    found: dict[str, list[dict]] = {dim: [] for dim in args.dims.split(",")}
    for seed in range(args.seeds):
        folder = Path(args.out) / f"seed-{seed}"
        videos = render_motion_set(folder / "videos", N_PER_CLASS, seed, SIZE, FRAMES, splits=SHARES)
        unlabelled = ["--data", f"{videos}@unlabelled", "--data", f"{videos}@train", "--visualize", 0, "--seed", seed]
        labelled = ["--data", f"{videos}@train", "--val", f"{videos}@val", "--seed", seed]
        for dim, runs in found.items():
            start, tuned = folder / f"{dim}-pretrain", folder / f"{dim}-finetune"
            pre = vid("pretrain", "--preset", "masked/tats-tiny", *unlabelled, "--set", f"sampler.dim={dim}", "--out", start)
            result = vid("finetune", "--preset", "classify/tiny", *labelled, "--from", start, "--out", tuned)
            runs.append({"top1": result["top1"], "error": pre["reconstruction"], "seconds": pre["seconds"]})
    print(f"| width of the policy | top-1, mean of {args.seeds} seeds | min to max | pretraining error | seconds of pretraining |")
    print("|---|---|---|---|---|")
    for dim, runs in found.items():
        top1 = [one["top1"] for one in runs]
        error, seconds = (statistics.mean(one[key] for one in runs) for key in ("error", "seconds"))
        print(f"| {dim} | {statistics.mean(top1):.1f} | {min(top1):.1f} to {max(top1):.1f} | {error:.3f} | {seconds:.0f} |")
