"""Prompts around names against a hand-written template, five videos of each class, with and without a temporal layer.

The image-text model is made here: `contrastive/video-text-tiny` on captioned shapes, with clips of two neighbouring frames, from which
colour and shape can be told and motion hardly. Classes are named by colour and shape (30, which the model knows) or by motion (6, which
takes several frames). Few-shot all-way as in the paper: five videos of every class, several draws, tested on all of `val`. Seeds are of
data, model and draws. Continues where it was stopped.
"""

import argparse
import csv
import statistics
from pathlib import Path

from benches import vid

PICTURES = ["--set", "data.clip.frames=2", "--set", "data.clip.stride_frames=1", "--set", "model.frames=2"]
NAMES = {"colour and shape": "{color} {shape}", "motion": "{motion}"}
TEMPLATES = {"colour and shape": "a {} that moves", "motion": "a shape that {}"}
LAYERS = (0, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--trials", type=int, default=3, help="draws of five videos a class")
    parser.add_argument("--steps", type=int, default=300, help="of each trial")
    parser.add_argument("--out", default="runs/bench-prompting")


def run(args: argparse.Namespace) -> None:
    seeds = [int(seed) for seed in args.seeds.split(",")]
    found = [_one(Path(args.out) / f"seed-{seed}", seed, args) for seed in seeds]
    print(f"Top-1 in percent, {len(seeds)} seeds with {args.trials} draws each: mean and standard deviation over seeds\n")
    print("| names of | classes | template | prompts, no temporal layer | prompts, one temporal layer |\n|---|---|---|---|---|")
    for kind in NAMES:
        cells = [_spread([one[kind][key] for one in found]) for key in ("zero-shot", *LAYERS)]
        print(f"| {kind} | {found[0][kind]['classes']} | {' | '.join(cells)} |")


def _one(folder: Path, seed: int, args: argparse.Namespace) -> dict[str, dict]:
    from tasks.core.data.synthetic_captions import render_caption_set

    videos = render_caption_set(folder / "videos", seed)
    data = ["--data", f"{videos}@train", "--val", f"{videos}@val"]
    vid("pretrain", "--preset", "contrastive/video-text-tiny", *data, *PICTURES, "--seed", seed, "--out", folder / "pictures")
    found: dict[str, dict] = {}
    for kind, name in NAMES.items():
        manifest = _named(videos, folder / f"{kind.replace(' ', '-')}.csv", name)
        found[kind] = {"classes": len({row["label"] for row in csv.DictReader(manifest.open(newline=""))})}
        for layers in LAYERS:
            words = ["--data", f"{manifest}@train", "--val", f"{manifest}@val", "--seed", seed, "--set", f"clip={folder / 'pictures'}"]
            words += ["--set", "features.hop_s=null", "--set", f"features.folder={folder / 'features'}"]
            words += ["--set", f"model.temporal.layers={layers}", "--set", f"template={TEMPLATES[kind]}"]
            words += ["--set", f"trials={{kind: all, shots: 5, trials: {args.trials}, seed: {seed}}}", "--max-steps", args.steps]
            result = vid("finetune", "--preset", "prompting/tiny", *words, "--out", folder / f"{kind.replace(' ', '-')}-{layers}")
            found[kind][layers], found[kind]["zero-shot"] = _mean(result["top1"]), _mean(result["zero_shot_top1"])
    return found


def _named(videos: Path, manifest: Path, name: str) -> Path:
    """The manifest of the videos with other labels."""
    from tasks.core.data.synthetic_captions import MOTIONS

    with videos.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in ("train", "val")]
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for row in rows:
            label = name.format(color=row["color"], shape=row["shape"], motion=MOTIONS[row["motion"]])
            writer.writerow([(videos.parent / row["path"]).resolve(), label, row["split"]])
    return manifest


def _mean(value: float | dict) -> float:
    return value["mean"] if isinstance(value, dict) else value


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0:.1f}"
