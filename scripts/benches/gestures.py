"""From scratch, VideoMAE, AdaMAE, TATS: equal fine-tuning budget for every start, equal pretraining budget for every sampler.

Continues where it was stopped.
"""

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benches import DATA, vid
from benches.gestures_reference import reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=str(DATA), help="folder with gestures/ and fights/")
    parser.add_argument("--out", default="runs/bench-gestures")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default="scratch,videomae,adamae,tats")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")


def run(args: argparse.Namespace) -> None:
    data, out = Path(args.data), Path(args.out)
    labelled, other = data / "gestures/manifest.csv", data / "fights/manifest.csv"

    def one(job: tuple[str, int]) -> tuple[str, dict]:
        method, seed = job
        name = f"{method}-{seed}"
        tune = ["finetune", "--data", f"{labelled}@train", "--val", f"{labelled}@val", "--out", out / f"{name}-finetune", "--seed", seed]
        if method == "scratch":
            return method, vid(*tune, "--preset", "classify/gestures-scratch")
        folder, given = out / f"{name}-pretrain", ["--data", f"{labelled}@train", "--data", f"{other}@train"]
        pre = vid("pretrain", "--preset", f"masked/{method}-gestures", *given, "--out", folder, "--seed", seed, "--visualize", 2)
        tuned = vid(*tune, "--preset", "classify/gestures", "--from", folder)
        return method, {**tuned, "reconstruction": pre["reconstruction"], "pretrain_seconds": pre["seconds"]}

    jobs = [(method, seed) for seed in range(args.seeds) for method in args.methods.split(",")]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(pool.map(one, jobs))
    print(f"| start | top-1, mean of {args.seeds} seeds | min to max | mean class | pretraining error | seconds pretrain + fine-tune |")
    print("|---|---|---|---|---|---|")
    for method in args.methods.split(","):
        runs = [result for name, result in results if name == method]
        top1 = [r["top1"] for r in runs]
        errors = [r["reconstruction"] for r in runs if "reconstruction" in r]
        before = statistics.mean(r.get("pretrain_seconds", 0) for r in runs)
        mean_class = statistics.mean(r["mean_class"] for r in runs)
        print(
            f"| {method} | {statistics.mean(top1):.1f} | {min(top1):.1f} to {max(top1):.1f} | {mean_class:.1f} "
            f"| {f'{statistics.mean(errors):.3f}' if errors else '-'} | {before:.0f} + {statistics.mean(r['seconds'] for r in runs):.0f} |"
        )
    left_out, test = reference(labelled)
    print(f"| motion directions, no network | {test:.1f} | - | - | - | - |")
    print(f"\nThe last row on people of the training set, each left out once: {left_out:.1f}.")
    print(f"\n{runs[0]['n']} test videos of people not seen in training; chance {100 / 7:.1f}; views {runs[0]['views']}.")
