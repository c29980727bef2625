"""Does MOFO help? Scratch, VideoMAE, TATS, MOFO*, and its head with true, random and whole-frame boxes; Turbo on top of one of them.

Equal budgets: the same network, data, epochs and augmentation in every row (without mixup, which boxes do not go with). Gestures of people
who were not seen in training, neither with labels nor without: the two of the validation set, and each of the seven left out once. The
demo's motions: pretraining on 1280 videos, labels of 160 of them. Boxes are found once, by DIS at 128 px. Continues where it was stopped.
"""

import argparse
import csv
import statistics
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benches import DATA, ROOT, VID, vid

TURBO = "{mask: 0.5, decoder: {depth: 1}}"


@dataclass(frozen=True)
class Row:
    """One way to a classifier: `start` is a pretraining preset's name before the dash, or None; `control` of the boxes of its head."""

    start: str | None
    head: bool = False
    control: str | None = None


ROWS = {
    "scratch": Row(None),
    "videomae": Row("videomae"),
    "tats": Row("tats"),
    "mofo": Row("mofo"),
    "mofo-head": Row("mofo", head=True),
    "mofo-head-random": Row("mofo", head=True, control="random"),
    "mofo-head-whole": Row("mofo", head=True, control="whole"),
    "videomae-head": Row("videomae", head=True),
    "videomae-head-random": Row("videomae", head=True, control="random"),
    "tats-head": Row("tats", head=True),
}
TITLES = {
    "scratch": "from scratch",
    "videomae": "VideoMAE (tubes)",
    "tats": "TATS",
    "mofo": "MOFO*",
    "mofo-head": "MOFO-dagger: MOFO* and the head",
    "mofo-head-random": "the same, random boxes",
    "mofo-head-whole": "the same, whole frame",
    "videomae-head": "MOFO**: VideoMAE and the head",
    "videomae-head-random": "the same, random boxes",
    "tats-head": "TATS and the head",
}
DEFAULT = ["scratch", "videomae", "tats", "mofo", "mofo-head", "mofo-head-random", "mofo-head-whole"]


@dataclass
class World:
    """Data of one split and seed, and the runs on them.

    Attributes:
        folder: of the runs.
        unlabelled: sources to pretrain on.
        train: source with labels.
        val: source to test on.
        boxes: CSV of boxes of all of them.
        size: what presets of this size end with, `gestures` or `tiny`.
        seed: of the runs.
        sets: settings of (pretraining, fine-tuning) beside those of the presets.
    """

    folder: Path
    unlabelled: list[str]
    train: str
    val: str
    boxes: Path
    size: str
    seed: int
    sets: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def run(self, name: str, row: Row, turbo: bool) -> dict:
        """The result of a row's fine-tuning, after its pretraining where there is one."""
        words = ["--data", self.train, "--val", self.val, "--seed", self.seed, "--set", "augment.mixup=0", *self.sets[1]]
        preset = "mofo-" + self.size if row.head else self.size
        words += ["--preset", f"classify/{preset}"]
        if row.start is None:
            words += ["--preset", f"classify/{self.size}-scratch"]
        else:
            words += ["--from", self.pretrained(row.start)]
        if row.head:
            words += ["--set", f"data.boxes.file={self.boxes}"]
        if row.control:
            words += ["--set", f"data.boxes.control={row.control}"]
        if turbo:
            words += ["--set", f"turbo={TURBO}"]
        return vid("finetune", *words, "--out", self.folder / (name + ("-turbo" if turbo else "")))

    def pretrained(self, start: str) -> Path:
        """The run of a pretraining, which rows share."""
        out = self.folder / f"pretrain-{start}"
        boxes = ["--set", f"data.boxes.file={self.boxes}"] if start == "mofo" else []
        data = [word for source in self.unlabelled for word in ("--data", source)]
        vid(
            "pretrain",
            "--preset",
            f"masked/{start}-{self.size}",
            *data,
            *boxes,
            *self.sets[0],
            "--seed",
            self.seed,
            "--visualize",
            0,
            "--out",
            out,
        )
        return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=str(DATA), help="folder with gestures/ and fights/")
    parser.add_argument("--out", default="runs/bench-motion")
    parser.add_argument(
        "--on", default="people,left-out,motions", help="people: the validation set's; left-out: each of the seven; motions"
    )
    parser.add_argument("--people", default="", help="of left-out: which; all of them unless given")
    parser.add_argument("--seeds", default="0,1,2", help="which; a table needs all of its seeds")
    parser.add_argument("--rows", default=",".join(DEFAULT), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--turbo", default="", metavar="ROWS", help="rows that are also fine-tuned with token dropout: the best")
    parser.add_argument("--epochs", metavar="PRE,FINE", help="instead of the presets' numbers, to try the script")
    parser.add_argument("--per-class", type=int, default=160, help="videos rendered of each motion")
    parser.add_argument("--parallel", type=int, default=1, help="splits and seeds at a time")


def run(args: argparse.Namespace) -> None:
    out, seeds = Path(args.out), [int(seed) for seed in args.seeds.split(",")]
    turbo = [name for name in args.turbo.split(",") if name]
    jobs = [(name, False) for name in args.rows.split(",")] + [(name, True) for name in turbo]
    epochs = args.epochs.split(",") if args.epochs else None
    sets = tuple(["--epochs", number] for number in epochs) if epochs else ([], [])
    made: dict[str, Callable[[], list[tuple[str, World]]]] = {
        "people": lambda: [("val", each) for each in _people(out, Path(args.data), None, seeds, sets)],
        "left-out": lambda: _each_left_out(out, Path(args.data), args.people, seeds, sets),
        "motions": lambda: [("val", each) for each in _motions(out, args.per_class, seeds, sets)],
    }
    for kind in args.on.split(","):
        worlds = made[kind]()
        with ThreadPoolExecutor(args.parallel) as pool:
            results = list(pool.map(lambda pair: [pair[1].run(name, ROWS[name], fast) for name, fast in jobs], worlds))
        _report(kind, jobs, [group for group, _ in worlds], results)


def _report(kind: str, jobs: list[tuple[str, bool]], groups: list[str], results: list[list[dict]]) -> None:
    """One table: mean and standard error over seeds, or over the people that were left out, of whom each is the mean over seeds."""
    over = "people, each a mean over seeds" if len(set(groups)) > 1 else "seeds"
    print(f"\n{kind}: {results[0][0]['n']} test videos a run, views {results[0][0]['views']}; standard errors over {over}.\n")
    print("| row | top-1 | standard error | seconds of fine-tuning |\n|---|---|---|---|")
    scores = {}
    for place, (name, fast) in enumerate(jobs):
        top1 = [row[place]["top1"] for row in results]
        scores[name, fast] = _units(groups, top1)
        title = TITLES[name] + (" and Turbo" if fast else "")
        seconds = statistics.mean(row[place]["seconds"] for row in results)
        print(f"| {title} | {statistics.mean(scores[name, fast]):.1f} | {_error(scores[name, fast]):.1f} | {seconds:.0f} |")
    for name, other in (("mofo-head", "mofo-head-random"), ("mofo-head", "mofo-head-whole"), ("mofo-head", "mofo"), ("mofo", "videomae")):
        if (name, False) in scores and (other, False) in scores:
            apart = [a - b for a, b in zip(scores[name, False], scores[other, False], strict=True)]
            print(f"\n{name} less {other}, in pairs: {statistics.mean(apart):+.1f} ± {_error(apart):.1f}", end="")
    print()


def _units(groups: list[str], values: list[float]) -> list[float]:
    """Values as they are, or of several groups their means."""
    if len(set(groups)) == 1:
        return values
    return [statistics.mean(v for g, v in zip(groups, values, strict=True) if g == group) for group in dict.fromkeys(groups)]


def _error(values: list[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def _people(out: Path, data: Path, person: str | None, seeds: list[int], sets: tuple) -> list[World]:
    """Gestures tested on one person, or on those of the validation set, a world for every seed."""
    labelled, other = data / "gestures/manifest.csv", data / "fights/manifest.csv"
    boxes = _boxes(out / "gestures-boxes.csv", labelled, other)
    if person is not None:
        labelled = _leaving_out(out / f"without-{person}.csv", labelled, person)
    unlabelled = [f"{labelled}@train", f"{other}@train"]
    return [
        World(out / f"{person or 'people'}-{seed}", unlabelled, f"{labelled}@train", f"{labelled}@val", boxes, "gestures", seed, sets)
        for seed in seeds
    ]


def _each_left_out(out: Path, data: Path, chosen: str, seeds: list[int], sets: tuple) -> list[tuple[str, World]]:
    with open(data / "gestures/manifest.csv", newline="") as file:
        people = chosen.split(",") if chosen else sorted({row["subject"] for row in csv.DictReader(file)})
    return [(person, world) for person in people for world in _people(out, data, person, seeds, sets)]


def _leaving_out(manifest: Path, source: Path, person: str) -> Path:
    """A manifest that has the videos of one person as `val` and all others as `train`."""
    manifest.parent.mkdir(parents=True, exist_ok=True)
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(manifest, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for row in rows:
            split = "val" if row["subject"] == person else "train"
            writer.writerow([(source.parent / row["path"]).resolve(), row["label"], split])
    return manifest


def _motions(out: Path, per_class: int, seeds: list[int], sets: tuple) -> list[World]:
    from tasks.core.data.synthetic import render_motion_set
    from vidcli.demo import FRAMES, SHARES, SIZE

    worlds = []
    for seed in seeds:
        folder = out / f"motions-{seed}"
        videos = render_motion_set(folder / "videos", per_class, seed, SIZE, FRAMES, splits=SHARES)
        boxes = _boxes(folder / "boxes.csv", videos)
        unlabelled = [f"{videos}@unlabelled", f"{videos}@train"]
        worlds.append(World(folder, unlabelled, f"{videos}@train", f"{videos}@val", boxes, "tiny", seed, sets))
    return worlds


def _boxes(file: Path, *sources: Path) -> Path:
    """Boxes of all videos of some manifests, found once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.with_suffix(".done").exists():
        words = [*VID, "motion-boxes", *map(str, sources), "-o", str(file), "--flow", "dis", "--short-side", "128", "-q"]
        subprocess.run(words, stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
        file.with_suffix(".done").touch()
    return file.resolve()
