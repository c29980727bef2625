"""The training-free detector, the one trained on pseudo-anomalies, and difference scores, on UCSD Ped2.

Continues where it was stopped. With a GPU: --preset anomalies/ped2 --short-side 256 --kinds none,patch,telea,ldm --model MODEL.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from benches import DATA, ROOT, VID, vid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=str(DATA / "ped2"), help="folder with manifest.csv, test_labels.csv and boxes.csv")
    parser.add_argument("--out", default="runs/bench-anomalies")
    parser.add_argument("--preset", default="anomalies/tiny")
    parser.add_argument("--kinds", default="none,patch,telea", help="of pseudo-anomaly: none, patch, telea, ldm")
    parser.add_argument("--masks", default="boxes,random", help="boxes, random, motion")
    parser.add_argument("--model", help="inpainting model of kind ldm")
    parser.add_argument("--short-side", type=int, default=64, help="of the pseudo-anomalies, px")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-models", action="store_true", help="the training-free detector only")


def run(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    data, out = Path(args.data).resolve(), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    normal, test, truth = f"{data}/manifest.csv@train", f"{data}/manifest.csv@test", data / "test_labels.csv"
    print("| detector | pseudo-anomalies, masks | fused | appearance | motion | change | seconds |\n|---|---|---|---|---|---|---|")
    baseline = frame_difference(data, out)
    print(f"| mean difference of neighbouring frames, untrained | | {100 * score(baseline, truth)['auc']:.2f} | | | | |", flush=True)
    began = time.monotonic()
    detect(out / "training-free", test, "--normal", normal)
    show("training-free", "", score(out / "training-free", truth), time.monotonic() - began)
    if args.no_models:
        return
    for seed in range(args.seeds):
        for kind in args.kinds.split(","):
            for masks in ["none"] if kind == "none" else args.masks.split(","):
                pseudo = make_pseudo(args, data, out, kind, masks)
                run_folder = out / f"{kind}-{masks}-{seed}"
                given = [] if pseudo is None else ["--set", f"pseudo={pseudo}"]
                result = vid("pretrain", "--preset", args.preset, "--data", normal, "--seed", seed, *given, "--out", run_folder)
                for name, weights in (("paper's weights", []), ("equal weights", ["--set", "weights=[0.5,0.5,0.0]"])):
                    found = out / f"{kind}-{masks}-{seed}-{'equal' if weights else 'paper'}"
                    detect(found, test, "--model", run_folder, *weights)
                    show(f"{args.preset}, {name}, seed {seed}", f"{kind}, {masks}", score(found, truth), result["seconds"])


def make_pseudo(args: argparse.Namespace, data: Path, out: Path, kind: str, masks: str) -> Path | None:
    """The folder of pseudo-anomalies of the training videos."""
    if kind == "none":
        return None
    folder = out / f"pseudo-{kind}-{masks}"
    chosen = f"boxes:{data}/boxes.csv" if masks == "boxes" else masks
    model = ["--model", args.model] if kind == "ldm" else []
    command("gen-pseudo", f"{data}/manifest.csv@train", "--out", folder, "--spatial", kind, "--masks", chosen, *model,
            "--short-side", args.short_side)  # fmt: skip
    return folder


def detect(folder: Path, test: str, *words: object) -> None:
    command("detect-anomalies", test, "--out", folder, "--write", "json", *words)


def command(*words: object) -> None:
    done = subprocess.run([*VID, *map(str, words), "-q"], stdout=subprocess.DEVNULL, cwd=ROOT)
    if done.returncode:
        sys.exit(f"vid {' '.join(map(str, words))} ended with exit code {done.returncode}")


def score(predictions: Path, truth: Path) -> dict:
    line = [*VID, "eval", "anomalies", "--predictions", predictions, "--ground-truth", truth, "--protocol", "micro-auc", "--json", "-q"]
    return json.loads(subprocess.run([str(w) for w in line], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout)


def frame_difference(data: Path, out: Path) -> Path:
    """A CSV of what anybody would try first."""
    import numpy as np

    from tasks.core.video.open import open_video

    file = out / "difference.csv"
    with open(file, "w", newline="") as written:
        table = csv.writer(written)
        table.writerow(["video", "frame", "score"])
        for path in sorted((data / "test").glob("*.mp4")):
            with open_video(path) as reader:
                frames = np.stack([image[..., 0] for _, _, image in reader.frames()]).astype(np.float32)
            change = np.abs(np.diff(frames, axis=0)).mean((1, 2))
            table.writerows((f"test/{path.name}", i, float(change[max(0, i - 1)])) for i in range(len(frames)))
    return file


def show(name: str, pseudo: str, result: dict, seconds: float) -> None:
    parts = result.get("parts", {})
    cells = [f"{100 * parts[part]:.2f}" if part in parts else "" for part in ("appearance", "motion", "change")]
    print(f"| {name} | {pseudo} | {100 * result['auc']:.2f} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
