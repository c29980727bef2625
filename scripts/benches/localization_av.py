"""Events of picture and sound on small real data: the localiser whole, without each of its parts, and with one modality.

All rows share one folder of features. The last rows are controls: with the sound of another video, what is learned of the picture remains.
Continues where it was stopped.
"""

import argparse
import csv
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benches import DATA, vid

NO = {name: f"model.{name}.enabled=false" for name in ("alignment", "contrast", "neck")}
VARIANTS = {  # name: (row of the table, settings)
    "full": ("alignment, contrast and PAN", ()),
    "none": ("none of the three", tuple(NO.values())),
    "no-aat": ("without alignment", (NO["alignment"],)),
    "no-scl": ("without contrast", (NO["contrast"],)),
    "no-pan": ("without PAN", (NO["neck"],)),
    "audio": ("sound alone", ("model.input=audio",)),
    "visual": ("picture alone", ("model.input=visual",)),
    "concat": ("both as one stream from the start", ("model.input=concat",)),
    "shuffled": ("control: trained and tested with the sound of another video", ()),
}
PRESET = "localization/av-events"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=str(DATA / "av_events"), help="folder with manifest.csv and annotations.json")
    parser.add_argument("--out", default="runs/bench-localization-av")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all runs. Repeatable.")
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")


def run(args: argparse.Namespace) -> None:
    manifest, out = Path(args.data) / "manifest.csv", Path(args.out)
    features = out / "features"
    common = ["--data", f"{manifest}@train", "--val", f"{manifest}@val", "--preset", PRESET]
    common += [part for value in args.set for part in ("--set", value)]

    def one(job: tuple[str, str]) -> tuple[str, dict]:
        variant, seed = job
        settings = [f"towers.folder={features}", *VARIANTS[variant][1]]
        if variant == "shuffled":
            streams = [f"data.streams.{name}.folder={folder}" for name, folder in shuffled(manifest, features, out).items()]
            settings = ["towers=null", *streams]
        given = [part for value in settings for part in ("--set", value)]
        return variant, vid("finetune", *common, "--out", out / f"{variant}-{seed}", "--seed", seed, *given)

    jobs = [(variant, seed) for seed in args.seeds.split(",") for variant in args.variants.split(",")]
    results = [one(jobs[0])]  # makes the features
    with ThreadPoolExecutor(args.parallel) as pool:
        results += pool.map(one, jobs[1:])
    table(results, args.variants.split(","))


def shuffled(manifest: Path, features: Path, out: Path) -> dict[str, Path]:
    """Stream -> folder of features, in which every video has the sound of the next one of its split."""
    found = {"visual": features / "visual", "audio": out / "features-shuffled"}
    if not (found["audio"] / "features.json").exists():
        splits: dict[str, list[str]] = {}
        with open(manifest, newline="") as file:
            for row in csv.DictReader(file):
                splits.setdefault(row["split"], []).append(Path(row["path"]).stem)
        found["audio"].mkdir(parents=True, exist_ok=True)
        for own in splits.values():
            for name, other in zip(own, own[1:] + own[:1], strict=True):
                for path in (features / "audio").glob(f"{other}.features.*"):
                    shutil.copyfile(path, found["audio"] / path.name.replace(other, name, 1))
        shutil.copyfile(features / "audio" / "features.json", found["audio"] / "features.json")
    return found


def table(results: list[tuple[str, dict]], variants: list[str]) -> None:
    """Prints a row for each variant: mean and standard deviation over seeds, percent."""
    print("| localiser | mAP@.5 | average mAP (.1:.1:.9) | runs | seconds a run |\n|---|---|---|---|---|")
    for variant in variants:
        runs = [result for name, result in results if name == variant]
        cells = [told([100 * run[key] for run in runs]) for key in ("map@0.5", "average_map")]
        seconds = statistics.mean(run["seconds"] for run in runs)
        print(f"| {VARIANTS[variant][0]} | {cells[0]} | {cells[1]} | {len(runs)} | {seconds:.0f} |")
    one = results[0][1]
    print(f"\n{one['n_videos']} validation videos, {one['n_events']} events, people and sounds that training has not.")


def told(values: list[float]) -> str:
    """Mean and, of several, standard deviation."""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")
