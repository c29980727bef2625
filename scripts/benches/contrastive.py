"""Motions of the demo: what DPC, MemDPC, InfoNCE, CoCLR and UberNCE find without labels, beside random weights; a mean over seeds.

1120 videos to pretrain on, whose labels UberNCE alone learns from; 160 labelled ones, the gallery and what the linear probe is trained on;
320 to test. Continues where it was stopped.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

from benches import ROOT, VID, vid

N_PER_CLASS, SIZE, FRAMES = 160, 64, 24
SPLITS = {"train": 0.1, "val": 0.2, "pretrain": 0.7}
STEPS = 1e-12, 1  # the learning rate and epochs of random weights: batch norm sees the data, and nothing is learned
LONG = ["--set", "data.clip.frames=12", "--set", "data.short_side=64"]  # clips of DPC and MemDPC
ROWS = (  # name, model below the seed's folder, whether it sees flow, settings of the probe's clips
    ("random weights, RGB", "random-rgb", False, []),
    ("random weights, flow", "random-flow", True, []),
    ("DPC, RGB", "dpc-rgb", False, LONG),
    ("MemDPC, RGB", "memdpc-rgb", False, LONG),
    ("DPC, flow", "dpc-flow", True, LONG),
    ("MemDPC, flow", "memdpc-flow", True, LONG),
    ("InfoNCE, RGB", "coclr/1-infonce-rgb", False, []),
    ("InfoNCE, flow", "coclr/2-infonce-flow", True, []),
    ("CoCLR, RGB, from InfoNCE as published", "coclr-from-infonce", False, []),
    ("CoCLR, RGB", "coclr/3-coclr-rgb", False, []),
    ("CoCLR, flow", "coclr/4-coclr-flow", True, []),
    ("UberNCE, RGB, with all labels", "ubernce", False, []),
)
TWO = "CoCLR, two streams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", default="0,1,2", help="which; a table needs all of its seeds")
    parser.add_argument("--out", default="runs/bench-contrastive")


def run(args: argparse.Namespace) -> None:
    seeds = [int(seed) for seed in args.seeds.split(",")]
    found = [_one_seed(Path(args.out) / f"seed-{seed}", seed) for seed in seeds]
    print(
        f"Mean and standard deviation of {len(seeds)} seeds, percent.\n\n| pretraining | linear probe | R@1 | seconds |\n|---|---|---|---|"
    )
    for name in found[0]["rows"]:
        linear, recall, seconds = ([one["rows"][name][key] for one in found] for key in ("linear", "r@1", "seconds"))
        print(f"| {name} | {_spread(linear)} | {_spread(recall)} | {statistics.mean(seconds):.0f} |")
    print("\nMining precision, share of mined clips that have the label (guessing: .1), over the epochs of each stage:")
    for stage in found[0]["precision"]:
        epochs = zip(*(one["precision"][stage] for one in found), strict=True)
        print(f"{stage}: {', '.join(f'{statistics.mean(values):.2f}' for values in epochs)}")


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"


def _one_seed(folder: Path, seed: int) -> dict[str, Any]:
    from tasks.core.data.synthetic import render_motion_set

    videos = render_motion_set(folder / "videos", N_PER_CLASS, seed, SIZE, FRAMES, splits=SPLITS)
    flow = folder / "flow"
    if not (folder / "flow.done").exists():
        given = ["data", "flow", videos, "-o", flow, "--method", "dis", "--short-side", 64, "--bound", 8, "-q"]
        subprocess.run([*VID, *map(str, given)], stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
        (folder / "flow.done").touch()
    on_flow = ["--set", f"data.flow.folder={flow}", "--set", "data.flow.frames=false"]
    seconds = _pretrain(folder, videos, flow, on_flow, seed)
    rows: dict[str, dict[str, float]] = {}
    for name, model, sees_flow, clips in ROWS:
        extra = on_flow if sees_flow else []
        rows[name] = _measured([folder / model], folder, videos, extra, clips, seed) | {"seconds": seconds.get(model, 0.0)}
        if name == "CoCLR, flow":
            both, only = [folder / "coclr/3-coclr-rgb", folder / "coclr/4-coclr-flow"], ["--set", f"data.flow.folder={flow}"]
            rows[TWO] = _measured(both, folder, videos, only, [], seed) | {"seconds": 0.0}
    stages = {"CoCLR, RGB": "coclr/3-coclr-rgb", "CoCLR, RGB, from InfoNCE": "coclr-from-infonce", "CoCLR, flow": "coclr/4-coclr-flow"}
    return {"rows": rows, "precision": {name: _precision(folder / run) for name, run in stages.items()}}


def _pretrain(folder: Path, videos: Path, flow: Path, on_flow: list[str], seed: int) -> dict[str, float]:
    """Seconds of every run by its folder; stages of CoCLR share those of their command."""
    bare = ["pretrain", "--data", f"{videos}@pretrain", "--seed", seed]
    both = ["--set", f"data.flow.folder={flow}"]
    still = [
        "--set",
        f"optim.base_lr={STEPS[0]}",
        "--set",
        f"train.epochs={STEPS[1]}",
        "--set",
        "optim.schedule=constant",
        "--set",
        "optim.milestones=[]",
    ]
    started = ["--from", folder / "coclr/1-infonce-rgb", "--set", f"method.miner={folder / 'coclr/2-infonce-flow'}"]
    runs = {
        "random-rgb": ("contrastive/infonce-tiny", still),
        "random-flow": ("contrastive/infonce-flow-tiny", [*still, *on_flow]),
        "coclr": ("contrastive/coclr-tiny", both),
        "coclr-from-infonce": ("contrastive/coclr-rgb-tiny", [*both, *started]),
        "ubernce": ("contrastive/ubernce-tiny", []),
        "dpc-rgb": ("predictive/dpc-tiny", []),
        "memdpc-rgb": ("predictive/memdpc-tiny", []),
        "dpc-flow": ("predictive/dpc-flow-tiny", on_flow),
        "memdpc-flow": ("predictive/memdpc-flow-tiny", on_flow),
    }
    return {name: vid(*bare, "--preset", preset, *extra, "--out", folder / name)["seconds"] for name, (preset, extra) in runs.items()}


def _measured(models: list[Path], folder: Path, videos: Path, flow: list[str], clips: list[str], seed: int) -> dict[str, float]:
    """Top-1 of a linear probe and R@1, in percent, of one model or of several together."""
    probes = []
    for model in models:
        probes.append(folder / f"probe-{'-'.join(model.relative_to(folder).parts)}")
        if len(models) == 1:
            data = ["--data", f"{videos}@train", "--val", f"{videos}@val", "--seed", seed]
            unloaded = [*flow, "--set", "data.preload=false"] if flow else []
            vid("finetune", "--preset", "classify/tiny-linear", "--from", model, *data, *clips, *unloaded, "--out", probes[-1])
    views = ["--clips", 2, "--crops", 1, *flow]
    probed = _test([word for probe in probes for word in ("--model", probe)], [*views, "--data", f"{videos}@val"])
    near = ["--protocol", "retrieval", "--gallery", f"{videos}@train", "--data", f"{videos}@val"]
    recalled = _test([word for model in models for word in ("--model", model)], [*views, *near])
    return {"linear": probed["top1"], "r@1": recalled["r@1"]}


def _test(models: list[object], words: list[object]) -> dict[str, Any]:
    done = subprocess.run(
        [*VID, "eval", "classify", *map(str, [*models, *words]), "--json", "-q"], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True
    )
    return json.loads(done.stdout)


def _precision(run: Path) -> list[float]:
    """Mean mining precision of each epoch."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs: dict[int, list[float]] = {}
    for line in lines:
        if "mining_precision" in line:
            epochs.setdefault(int(line.get("epoch", 0)), []).append(line["mining_precision"])
    return [statistics.mean(values) for _, values in sorted(epochs.items())]
