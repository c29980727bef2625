"""DPC, MemDPC, InfoNCE, CoCLR and UberNCE at toy size: linear probe and R@1 beside random weights, on motions or gestures.

Motions of the demo: 1120 videos to pretrain on, whose labels UberNCE alone learns from; 160 labelled ones, the gallery and what the probe
is trained on; 320 to test. Gestures (--gestures DATA): pretraining on those of five people and on surveillance clips, tested on two other
people. Continues where it was stopped.
"""

import argparse
import json
import statistics
import subprocess
from dataclasses import dataclass
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
    ("CoCLR, RGB from InfoNCE", "coclr-from-infonce", False, []),
    ("CoCLR, RGB", "coclr/3-coclr-rgb", False, []),
    ("CoCLR, flow", "coclr/4-coclr-flow", True, []),
    ("UberNCE, RGB, with all labels", "ubernce", False, []),
)
TWO = "CoCLR, two streams"
PEOPLE = ("random weights, RGB", "random weights, flow", "DPC, flow", "InfoNCE, RGB", "InfoNCE, flow", "CoCLR, RGB", "CoCLR, flow")
PEOPLE_EPOCHS = {"method.first.epochs": 40, "method.first.milestones": [32], "method.then.epochs": 60, "method.then.milestones": [50]}
TENTHS = ["--set", "data.clip.stride_s=0.15"]  # 10 to 20 frames a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", default="0,1,2", help="which; a table needs all of its seeds")
    parser.add_argument("--gestures", metavar="DATA", help="folder with gestures/ and fights/: these instead of the motions")
    parser.add_argument("--out", default="runs/bench-contrastive")


def run(args: argparse.Namespace) -> None:
    seeds = [int(seed) for seed in args.seeds.split(",")]
    out = Path(args.out)
    if args.gestures:
        found = [_gestures(out / f"gestures-{seed}", Path(args.gestures), seed) for seed in seeds]
    else:
        found = [_motions(out / f"seed-{seed}", seed) for seed in seeds]
    print(
        f"Mean and standard deviation of {len(seeds)} seeds, percent.\n\n| pretraining | linear probe | R@1 | seconds |\n|---|---|---|---|"
    )
    for name in found[0]["rows"]:
        linear, recall, seconds = ([one["rows"][name][key] for one in found] for key in ("linear", "r@1", "seconds"))
        print(f"| {name} | {_spread(linear)} | {_spread(recall)} | {statistics.mean(seconds):.0f} |")
    print("\nMining precision, share of mined clips that have the label, over the epochs of each stage:")
    for stage in found[0]["precision"]:
        epochs = zip(*(one["precision"][stage] for one in found), strict=True)
        print(f"{stage}: {', '.join(f'{statistics.mean(values):.2f}' for values in epochs)}")


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"


@dataclass(frozen=True)
class World:
    """One data set with its flow: what to pretrain on, the gallery, the test."""

    folder: Path
    pretrain: tuple[str, ...]
    train: str
    val: str
    seed: int
    clip: tuple[str, ...] = ()

    @property
    def flow(self) -> list[str]:
        """Of runs that see both."""
        return ["--set", f"data.flow.folder={self.folder / 'flow'}"]

    @property
    def on_flow(self) -> list[str]:
        """Of runs that see flow alone."""
        return [*self.flow, "--set", "data.flow.frames=false"]

    def make_flow(self, *sources: object) -> None:
        if not (self.folder / "flow.done").exists():
            given = ["data", "flow", *sources, "-o", self.folder / "flow", "--method", "dis", "--short-side", 64, "--bound", 8, "-q"]
            subprocess.run([*VID, *map(str, given)], stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
            (self.folder / "flow.done").touch()

    def pretrained(self, name: str, preset: str, extra: list[object]) -> float:
        """Seconds of a run."""
        data = [word for source in self.pretrain for word in ("--data", source)]
        words = ["pretrain", *data, "--seed", self.seed, "--preset", preset, *extra, *self.clip, "--out", self.folder / name]
        return vid(*words)["seconds"]

    def measured(self, models: list[str], flow: list[str], clips: list[str]) -> dict[str, float]:
        """Top-1 of a linear probe and R@1, in percent, of one model or of several together."""
        probes = [self.folder / f"probe-{model.replace('/', '-')}" for model in models]
        if len(models) == 1:
            data = ["--data", self.train, "--val", self.val, "--seed", self.seed]
            unloaded = [*flow, "--set", "data.preload=false"] if flow else []
            start = ["--preset", "classify/tiny-linear", "--from", self.folder / models[0]]
            vid("finetune", *start, *data, *clips, *self.clip, *unloaded, "--out", probes[0])
        views = ["--clips", 2, "--crops", 1, *flow, "--data", self.val]
        probed = _test([word for probe in probes for word in ("--model", probe)], views)
        near = ["--protocol", "retrieval", "--gallery", self.train]
        recalled = _test([word for model in models for word in ("--model", self.folder / model)], [*views, *near])
        return {"linear": probed["top1"], "r@1": recalled["r@1"]}


def _motions(folder: Path, seed: int) -> dict[str, Any]:
    from tasks.core.data.synthetic import render_motion_set

    videos = render_motion_set(folder / "videos", N_PER_CLASS, seed, SIZE, FRAMES, splits=SPLITS)
    world = World(folder, (f"{videos}@pretrain",), f"{videos}@train", f"{videos}@val", seed)
    world.make_flow(videos)
    return _results(world, list(ROWS), _pretrain(world, _runs(world)))


def _gestures(folder: Path, data: Path, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    own, other = data / "gestures/manifest.csv", data / "fights/manifest.csv"
    world = World(folder, (f"{own}@train", f"{other}@train"), f"{own}@train", f"{own}@val", seed, tuple(TENTHS))
    world.make_flow(own, other)
    runs = {name: what for name, what in _runs(world).items() if name in ("random-rgb", "random-flow", "coclr", "dpc-flow")}
    longer = [word for key, value in PEOPLE_EPOCHS.items() for word in ("--set", f"{key}={value}")]
    runs["coclr"] = (runs["coclr"][0], [*runs["coclr"][1], *longer])
    runs["dpc-flow"] = (runs["dpc-flow"][0], [*runs["dpc-flow"][1], "--set", "train.epochs=24"])
    return _results(world, [row for row in ROWS if row[0] in PEOPLE], _pretrain(world, runs))


def _runs(world: World) -> dict[str, tuple[str, list[object]]]:
    """Name -> preset and settings, in an order in which each finds what it starts from."""
    still = ["--set", f"optim.base_lr={STEPS[0]}", "--set", f"train.epochs={STEPS[1]}"]
    still += ["--set", "optim.schedule=constant", "--set", "optim.milestones=[]"]
    coclr = world.folder / "coclr"
    started = ["--from", coclr / "1-infonce-rgb", "--set", f"method.miner={coclr / '2-infonce-flow'}"]
    return {
        "random-rgb": ("contrastive/infonce-tiny", still),
        "random-flow": ("contrastive/infonce-flow-tiny", [*still, *world.on_flow]),
        "coclr": ("contrastive/coclr-tiny", world.flow),
        "dpc-flow": ("predictive/dpc-flow-tiny", world.on_flow),
        "coclr-from-infonce": ("contrastive/coclr-rgb-tiny", [*world.flow, *started]),
        "ubernce": ("contrastive/ubernce-tiny", []),
        "memdpc-flow": ("predictive/memdpc-flow-tiny", world.on_flow),
        "dpc-rgb": ("predictive/dpc-tiny", []),
        "memdpc-rgb": ("predictive/memdpc-tiny", []),
    }


def _pretrain(world: World, runs: dict[str, tuple[str, list[object]]]) -> dict[str, float]:
    """Seconds of every run; the stages of CoCLR are one."""
    return {name: world.pretrained(name, preset, extra) for name, (preset, extra) in runs.items()}


def _results(world: World, rows: list[tuple[str, str, bool, list[str]]], seconds: dict[str, float]) -> dict[str, Any]:
    found: dict[str, dict[str, float]] = {}
    for name, model, sees_flow, clips in rows:
        found[name] = world.measured([model], world.on_flow if sees_flow else [], clips) | {"seconds": seconds.get(model, 0.0)}
        if name == "CoCLR, flow":
            found[TWO] = world.measured(["coclr/3-coclr-rgb", "coclr/4-coclr-flow"], world.on_flow, []) | {"seconds": seconds["coclr"]}
    stages = {"CoCLR, RGB": "coclr/3-coclr-rgb", "CoCLR, RGB from InfoNCE": "coclr-from-infonce", "CoCLR, flow": "coclr/4-coclr-flow"}
    told = {name: _precision(world.folder / run) for name, run in stages.items() if (world.folder / run).exists()}
    return {"rows": found, "precision": told}


def _test(models: list[object], words: list[object]) -> dict[str, Any]:
    told = [*VID, "eval", "classify", *map(str, [*models, *words]), "--json", "-q"]
    return json.loads(subprocess.run(told, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True).stdout)


def _precision(run: Path) -> list[float]:
    """Mean mining precision of each epoch."""
    epochs: dict[int, list[float]] = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        if "mining_precision" in line:
            epochs.setdefault(int(line.get("epoch", 0)), []).append(line["mining_precision"])
    return [statistics.mean(values) for _, values in sorted(epochs.items())]
