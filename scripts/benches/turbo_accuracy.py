"""Turbo on the demo's motions: top-1 of every (m, r) after as many epochs as m = 0 has, and after as many seconds.

Sixteen labelled videos of each motion, 320 to test. Every row of a seed starts from the same encoder. Seconds are those of training steps,
reading left out: their ratio to m = 0 is measured by turns before the first run and kept. Continues where it was stopped.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benches import vid

N_PER_CLASS, SIZE, FRAMES = 160, 64, 24
SPLITS = {"train": 0.1, "val": 0.2, "unlabelled": 0.7}
PRESET = "classify/turbo-tiny"
RATES = "steps.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    accuracy = parser.add_argument_group("accuracy")
    accuracy.add_argument("--seeds", default="0,1,2", help="which")
    accuracy.add_argument("--start", default="masked/tats-tiny", help="preset of the pretraining; scratch: none")
    accuracy.add_argument("--epochs", type=int, help="of fine-tuning with m = 0; default: of the preset")
    accuracy.add_argument("--pretrain-epochs", type=int, help="default: of the preset")
    accuracy.add_argument("--px", type=int, default=32, help="side of the clips; 64: 256 tokens, four times the cost")
    accuracy.add_argument("--pool", default="cls", choices=("cls", "mean"), help="what the head reads")
    accuracy.add_argument("--out", default="runs/bench-turbo")


def table(args: argparse.Namespace) -> None:
    from benches.turbo import SHARES

    out, seeds = Path(args.out), [int(seed) for seed in args.seeds.split(",")]
    rates = measured_rates(args, out)
    found = {seed: one_seed(args, out / f"seed-{seed}", seed, rates) for seed in seeds}
    told = f"Motions, {len(seeds)} seed(s), {args.px} px, from {args.start}, pool {args.pool}"
    print(f"{told}: top-1 with all tokens, percent, mean and standard error")
    print("\n| (m, r) | step, times as fast | equal epochs | equal time | epochs then |\n|---|---|---|---|---|")
    for shares in SHARES:
        runs = [found[seed][shares] for seed in seeds]
        cells = [spread([one[key] for one in runs]) for key in ("epochs", "time")]
        print(f"| {shares} | {rates[str(shares)]:.2f} | {' | '.join(cells)} | {runs[0]['length']} |")


def spread(values: list[float]) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {error:.1f}"


def sized(args: argparse.Namespace) -> list[str]:
    """Settings of the clips."""
    return ["--set", f"data.short_side={args.px}"]


def toy_model(args: argparse.Namespace) -> str:
    """The encoder of the toy presets, as a setting."""
    model = {"size": "tiny", "dim": 96, "depth": 4, "heads": 3, "image_size": args.px, "frames": 8, "tubelet": 2, "patch": 8}
    return json.dumps({**model, "pos": "sincos3d", "pos_scale": 3.0, "start": "local"})


def measured_rates(args: argparse.Namespace, out: Path) -> dict[str, float]:
    """How many times as fast as with m = 0 a step is, by row: of the model that is trained, measured once."""
    from benches.turbo import SHARES, by_turns, step_of
    from vidcli.resolve import Given, resolve

    file = out / RATES
    if not file.exists():
        steps = {}
        for m, r in SHARES:
            sets = [*row_settings(args, m, r)[1::2], f"model={toy_model(args)}", "data.train=[unused]"]
            config = resolve(Given(PRESET, (), [], sets), "finetune").config
            if args.pool == "cls":
                config = config.model_copy(update={"model": config.model.model_copy(update={"class_token": True})})
            steps[str((m, r))] = step_of(config, argparse.Namespace(precision="fp32"))
        taken = by_turns(steps, 9, warmup=2)
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({name: taken[str(SHARES[0])] / seconds for name, seconds in taken.items()}))
    return json.loads(file.read_text())


def row_settings(args: argparse.Namespace, m: float, r: float) -> list[str]:
    return [*sized(args), "--set", f"turbo.mask={m}", "--set", f"turbo.reconstruct={r}", "--set", f"head.pool={args.pool}"]


def one_seed(args: argparse.Namespace, folder: Path, seed: int, rates: dict[str, float]) -> dict[tuple[float, float], dict[str, Any]]:
    from benches.turbo import SHARES
    from tasks.core.data.synthetic import render_motion_set

    manifest = render_motion_set(folder / "videos", N_PER_CLASS, seed, SIZE, FRAMES, splits=SPLITS)
    start = ["--set", f"model={toy_model(args)}"]
    if args.start != "scratch":
        given = ["--data", f"{manifest}@unlabelled", "--data", f"{manifest}@train", "--seed", seed, "--visualize", 0]
        given += ["--epochs", args.pretrain_epochs] if args.pretrain_epochs else []
        vid("pretrain", "--preset", args.start, *given, *sized(args), "--set", f"model.image_size={args.px}", "--out", folder / "start")
        start = ["--from", folder / "start"]
    epochs, found = args.epochs or preset_epochs(), {}
    for m, r in SHARES:
        row: dict[str, Any] = {"length": max(1, round(epochs * rates[str((m, r))]))}
        for name, length in {"epochs": epochs, "time": row["length"]}.items():
            run = folder / f"{m:g}-{r:g}-{args.pool}-{length}"
            data = ["--data", f"{manifest}@train", "--val", f"{manifest}@val", "--seed", seed, "--epochs", length, "--out", run]
            row[name] = vid("finetune", "--preset", PRESET, *start, *data, *row_settings(args, m, r))["top1"]
        found[m, r] = row
    return found


def preset_epochs() -> int:
    from vidcli.resolve import Given, resolve

    return resolve(Given(PRESET), "finetune").config.train.epochs
