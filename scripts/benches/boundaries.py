"""Event boundaries: the training-free detector, PySceneDetect, and small trained models with and without pretraining; F1 and speed.

Three test sets: sequences of one person's actions as they come with the data, with jump cuts and with dissolves between them, and
sequences made here from the clips of people whom no model has seen. The models are fine-tuned on sequences made from the others.
PySceneDetect runs in an environment of its own, because its OpenCV wheel cannot lie beside ours. Continues where it was stopped.
"""

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benches import DATA, ROOT, vid

FPS = 15
KINDS = ("cut", "dissolve", "event")
CHOSEN_ON = ("S1", "S3", "S4", "S5", "S6")
"""People of whose dissolving gestures and sequences the settings of the training-free detector were chosen."""
ARMS = {  # name: (encoder preset of pretraining or None, with MotionSqueeze)
    "scratch": (None, False),
    "scratch, MotionSqueeze": (None, True),
    "cVCLR": ("boundaries/cvclr-tiny", False),
    "cVCLR + MotionSqueeze": ("boundaries/cvclr-tiny", True),
}
SCRATCH = "{size: resnet18, width: 16, image_size: 48, motion: %s}"  # the network of boundaries/cvclr-tiny

SCENEDETECT = """
import json, sys, time
from scenedetect import detect, ContentDetector, AdaptiveDetector
videos, out = json.load(open(sys.argv[1])), {}
for name, make in {
    **{f"content {t}": (lambda t=t: ContentDetector(threshold=t, min_scene_len=5)) for t in (27, 15, 10, 8, 6, 5, 4, 3, 2, 1.5, 1)},
    **{f"adaptive {t}": (lambda t=t: AdaptiveDetector(adaptive_threshold=t, min_content_val=m, min_scene_len=5))
       for t in (3, 2, 1.5) for m in (15,)},
    **{f"adaptive {t}, content 1": (lambda t=t: AdaptiveDetector(adaptive_threshold=t, min_content_val=1, min_scene_len=5))
       for t in (8, 6, 5, 4, 3, 2)},
}.items():
    began = time.monotonic()
    found = {v: [s[0].seconds for s in detect(path, make())][1:] for v, path in videos.items()}
    out[name] = {"predictions": found, "seconds": time.monotonic() - began}
json.dump(out, open(sys.argv[2], "w"))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default=str(DATA), help="folder with gestures/, fights/ and sequences/")
    parser.add_argument("--out", default="runs/bench-boundaries")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--no-scenedetect", action="store_true", help="leave PySceneDetect out (it is installed with pip)")
    parser.add_argument("--no-models", action="store_true", help="leave the trained models out")


def make_sequences(gestures: Path, split: str, out: Path, count: int, seed: int) -> Path:
    """`count` mp4 files of 2 to 7 clips of one person at one distance, and their truth.json; returns that file."""
    from tasks.core.clips.clips import nearest
    from tasks.core.data.synthetic import encode
    from tasks.core.video.open import open_video

    if (out / "truth.json").exists():
        return out / "truth.json"
    out.mkdir(parents=True, exist_ok=True)
    rng, groups = random.Random(seed), {}
    with open(gestures / "manifest.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == split:
                groups.setdefault((row["subject"], Path(row["path"]).stem.partition("_")[2]), []).append(gestures / row["path"])
    import numpy as np

    truth, places = {}, sorted(groups)
    for number in range(count):
        place = places[number % len(places)]
        parts = []
        for path in rng.sample(groups[place], rng.randint(2, len(groups[place]))):
            with open_video(path) as reader:
                length = rng.uniform(0.8, 4.0)
                start = reader.pts[0] + rng.random() * max(0.0, reader.pts[-1] - reader.pts[0] - length)
                times = np.arange(start, min(start + length, reader.pts[-1]), 1 / FPS)
                parts.append(reader.get(nearest(reader.pts, times)))
        smallest = min(p.shape[1] for p in parts), min(p.shape[2] for p in parts)
        frames = np.concatenate([p[:, : smallest[0], : smallest[1]] for p in parts])
        name = f"{place[0]}_{place[1]}_{number}"
        (out / f"{name}.mp4").write_bytes(encode(frames, FPS))
        ends = np.cumsum([len(p) for p in parts]) / FPS
        truth[name] = {
            "path": f"{name}.mp4",
            "fps": float(FPS),
            "num_frames": len(frames),
            "video_duration": float(ends[-1]),
            "f1_consis": [1.0],
            "f1_consis_avg": 1.0,
            "substages_timestamps": [[float(t) for t in ends[:-1]]],
        }
    (out / "truth.json").write_text(json.dumps(truth))
    return out / "truth.json"


def f1(predictions: dict[str, list[float]], truth: dict) -> dict:
    from tasks.core.metrics.boundaries import gebd_scores

    return gebd_scores(predictions, truth)


def training_free(folder: Path, truth: dict) -> tuple[dict[str, list[tuple[float, str]]], float]:
    """Times and kinds of what is found, and seconds of video per second of one process."""
    from tasks.boundaries.training_free import pick, score_video
    from tasks.core.video.open import open_video

    found, began = {}, time.monotonic()
    for name, entry in truth.items():
        with open_video(folder / entry.get("path", f"{name}.mp4")) as reader:
            found[name] = [(b.t - float(reader.pts[0]), b.kind) for b in pick(score_video(reader), 0.5, 0.5)]
    return found, sum(e["video_duration"] for e in truth.values()) / (time.monotonic() - began)


def scenedetect(folder: Path, truth: dict, out: Path) -> dict:
    """setting -> {"predictions", "seconds"} of PySceneDetect in a virtual environment below `out`."""
    python = out / "scenedetect" / "bin" / "python"
    if not python.exists():
        venv.create(out / "scenedetect", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "scenedetect-headless"], check=True)
    videos, answer = out / "videos.json", out / "scenedetect.json"
    videos.write_text(json.dumps({name: str(folder / entry.get("path", f"{name}.mp4")) for name, entry in truth.items()}))
    subprocess.run([python, "-c", SCENEDETECT, videos, answer], check=True, stderr=subprocess.DEVNULL)
    return json.loads(answer.read_text())


def learned_speed(model: Path, truth_file: Path, count: int = 4) -> float:
    """Seconds of video per second of a trained detector in this process."""
    from tasks.boundaries.learned import LearnedScorer
    from tasks.core.video.open import open_video

    scorer, truth = LearnedScorer(str(model)), json.loads(truth_file.read_text())
    warm_up, *videos = list(truth.values())[: count + 1]

    def score(entry: dict) -> float:
        began = time.monotonic()
        with open_video(truth_file.parent / entry["path"]) as reader:
            scorer.score(reader)
        return time.monotonic() - began

    score(warm_up)
    return sum(entry["video_duration"] for entry in videos) / sum(map(score, videos))


def line(name: str, result: dict, speed: float | None) -> str:
    shown = f"{speed:.0f} x" if speed else ""
    return f"| {name} | {result['f1']['0.05']:.3f} | {result['f1']['0.10']:.3f} | {result['avg_f1']:.3f} | {shown} |"


def report(name: str, folder: Path, truth: dict, args: argparse.Namespace) -> None:
    """The rows of what needs no training."""
    spans = sum(e["video_duration"] for e in truth.values())
    print(f"\n{name}: {len(truth)} videos, {sum(len(e['substages_timestamps'][0]) for e in truth.values())} boundaries, {spans:.0f} s\n")
    print("| detector | F1 at 0.05 | at 0.10 | mean of ten | times real time, one process |\n|---|---|---|---|---|")
    training_free(folder, dict(list(truth.items())[:2]))  # warm-up
    found, speed = training_free(folder, truth)
    print(line("training-free, one setting", f1({k: [t for t, _ in v] for k, v in found.items()}, truth), speed))
    for kind in KINDS:
        told = {k: [t for t, own in v if own == kind] for k, v in found.items()}
        print(line(f"of these the {sum(map(len, told.values()))} {kind}s alone", f1(told, truth), None))
    if not args.no_scenedetect:
        settings = scenedetect(folder, truth, Path(args.out))
        scored = {k: f1(v["predictions"], truth) for k, v in settings.items()}
        best = max(scored, key=lambda k: scored[k]["f1"]["0.05"])
        rows = {"content 27": "PySceneDetect, content 27 (its default)", "adaptive 3": "PySceneDetect, adaptive 3 (its default)"}
        for key, label in {**rows, best: f"PySceneDetect, best of {len(scored)} settings on these videos: {best}"}.items():
            print(line(label, scored[key], spans / settings[key]["seconds"]))
    evenly = {n: {k: [i / (n + 1) * e["video_duration"] for i in range(1, n + 1)] for k, e in truth.items()} for n in range(2, 8)}
    best = max(evenly, key=lambda n: f1(evenly[n], truth)["f1"]["0.05"])
    print(line(f"{best} evenly spaced guesses, the best number of them", f1(evenly[best], truth), None))


def train(args: argparse.Namespace, data: Path, train_set: Path, val_set: Path) -> None:
    """The rows of trained models: mean over seeds, on people that none of them has seen."""
    out = Path(args.out)

    def one(job: tuple[str, int]) -> tuple[str, dict, float]:
        arm, seed = job
        preset, motion = ARMS[arm]
        name = arm.replace(", ", "-").replace(" + ", "-").replace(" ", "-")
        without = [] if motion else ["--set", "model.motion=null"]
        tune = ["finetune", "--preset", "boundaries/gebd-tiny", "--data", train_set, "--val", val_set, "--seed", seed]
        tune += ["--set", "train.eval_every_epochs=null", "--epochs", 40]  # evaluated only at the end: the test set chooses nothing
        if preset is None:
            given = ["--set", f"model={SCRATCH % ('{patch: 5, sigma: 2.0}' if motion else 'null')}"]
        else:
            folder = out / f"{name}-{seed}-pretrain"
            sources = [f"{data}/gestures/manifest.csv@train", f"{data}/fights/manifest.csv@train"]
            unlabelled = [word for source in sources for word in ("--data", source)]
            vid("pretrain", "--preset", preset, *unlabelled, *without, "--out", folder, "--seed", seed)
            given = ["--from", folder]
        result = vid(*tune, *given, "--out", out / f"{name}-{seed}-finetune")
        return arm, result, result["seconds"]

    jobs = [(arm, seed) for seed in range(args.seeds) for arm in ARMS]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(pool.map(one, jobs))
    print(f"\nTrained models on the second set, {args.seeds} seeds\n")
    print("| start | F1 at 0.05, mean | min to max | mean of ten | times real time | seconds of fine-tuning |\n|---|---|---|---|---|---|")
    for arm in ARMS:
        rows = [(r, s) for name, r, s in results if name == arm]
        tight = [r["f1@0.05"] for r, _ in rows]
        mean, wide = statistics.mean(tight), statistics.mean(r["avg_f1"] for r, _ in rows)
        speed = learned_speed(Path(rows[0][0]["model"]), val_set)
        spent = statistics.mean(s for _, s in rows)
        print(f"| {arm} | {mean:.3f} | {min(tight):.3f} to {max(tight):.3f} | {wide:.3f} | {speed:.1f} x | {spent:.0f} |")


def run(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(ROOT))
    data, out = Path(args.data).resolve(), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    real = data / "sequences"
    report("Sequences of the data", real, json.loads((real / "boundaries.json").read_text()), args)
    smooth = json.loads((data / "smooth/boundaries.json").read_text())
    chosen, other = ({k: e for k, e in smooth.items() if (k.split("_")[1] in CHOSEN_ON) == own} for own in (True, False))
    report("Gestures that dissolve into each other, of the people whose sequences chose the settings", data / "smooth", chosen, args)
    report("The same of two other people", data / "smooth", other, args)
    made_train = make_sequences(data / "gestures", "train", out / "train", 60, 0)
    made_val = make_sequences(data / "gestures", "val", out / "val", 36, 1)
    report("Sequences made of unseen people", made_val.parent, json.loads(made_val.read_text()), args)
    if not args.no_models:
        train(args, data, made_train, made_val)
