"""What `vid demo` does: videos, pretraining, fine-tuning, the same from scratch, a report."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidcli.console import Console
from vidcli.resolve import Given, resolve

N_PER_CLASS, SIZE, FRAMES = 160, 64, 24
SHARES = {"train": 0.1, "val": 0.2, "unlabelled": 0.7}


def run_demo(out: Path, console: Console, seed: int = 0, n_per_class: int = N_PER_CLASS, epochs: int | None = None) -> dict[str, Any]:
    """Runs the demo in `out` and returns the rows of its table. Repeating it continues where it stopped.

    Classes, network, data and fine-tuning budget are the same in both rows; only the start of the encoder differs.

    Args:
        n_per_class: videos rendered of each motion, all splits together.
        epochs: of each training; None: what the presets say.
    """
    from tasks.core.data.synthetic import CLASSES, render_motion_set

    started = time.monotonic()
    manifest = render_motion_set(out / "videos", n_per_class, seed, SIZE, FRAMES, splits=SHARES, reporter=console)
    shared = {"train.seed": seed, **({"train.epochs": epochs} if epochs else {})}
    unlabelled = {**shared, "data.train": [f"{manifest}@unlabelled", f"{manifest}@train"]}
    labelled = {**shared, "data.train": [f"{manifest}@train"], "data.val": [f"{manifest}@val"]}
    pretrained = _train("masked/tats-tiny", out / "pretrain", unlabelled, console)
    tuned = _train("classify/tiny", out / "finetune", {**labelled, "init": str(out / "pretrain")}, console)
    scratch = _train("classify/tiny-scratch", out / "scratch", labelled, console)
    chance = 100 / len(CLASSES)
    rows = [
        {"encoder": "pretrained with TATS", **_shown(tuned)},
        {"encoder": "from scratch", **_shown(scratch)},
        {"encoder": "chance", "top1": chance, "top5": min(100.0, 5 * chance), "n": tuned["n"], "views": "-"},
    ]
    report = _report(out, rows, pretrained, chance, time.monotonic() - started)
    console.table(rows)
    console.info(f"report: {report}")
    return {"rows": rows, "report": str(report)}


def render_captions(out: Path, console: Console, seed: int = 0, scenes: int = 1) -> dict[str, Any]:
    """Renders a captioned set in `out`, or what is missing of it; returns what it is and what can be done with it.

    Args:
        scenes: sentences of a video.
    """
    from tasks.core.data.synthetic_captions import VIDEOS, render_caption_set

    videos = {split: max(1, count // scenes) for split, count in VIDEOS.items()}
    manifest = render_caption_set(out, seed, videos, scenes, frames=FRAMES if scenes == 1 else 2 * FRAMES, reporter=console)
    sets = f"--data {manifest} --val {manifest}@val --val {manifest}@held"
    return {
        "manifest": str(manifest),
        **{f"{split}_sentences": count * scenes for split, count in videos.items()},
        "next": f"vid pretrain --preset contrastive/video-text-tiny {sets}",
    }


def _train(preset: str, folder: Path, settings: Mapping[str, Any], console: Console) -> dict[str, Any]:
    from tasks.core.engine.run import Run
    from tasks.registry import verb_module

    flags = [("vid demo", key, value) for key, value in settings.items()]
    resolved = resolve(Given(preset, flags=flags))
    run = Run.open(folder, resolved.config, resolved.task, resolved.verb, ["vid", "demo"], console, preset)
    if not run.finished:
        console.info(f"{resolved.verb} {folder}")
        verb_module(resolved.task, resolved.verb).run(resolved.config, run)
    return run.result


def _shown(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"top1": round(result["top1"], 1), "top5": round(result["top5"], 1), "n": result["n"], "views": result["views"]}


def _report(out: Path, rows: list[dict[str, Any]], pretrained: Mapping[str, Any], chance: float, seconds: float) -> Path:
    import numpy as np

    from tasks.core.engine.run import read_metrics
    from tasks.core.report import figures
    from tasks.core.report.page import Page

    logs = {name: read_metrics(out / name / "metrics.jsonl") for name in ("pretrain", "finetune", "scratch")}
    page = Page(
        "vid demo", "Masked video pretraining with a learned token sampler, fine-tuned and tested beside the same network from scratch"
    )
    page.section("Result").table(list(rows[0]), [[row.get(key, "") for key in rows[0]] for row in rows])
    page.figure(figures.bars({row["encoder"]: row["top1"] for row in rows[:2]}, chance))
    page.text(
        f"Ten motions that single frames cannot tell apart, {rows[0]['n']} test videos; {seconds / 60:.1f} minutes. Toy scale shows the "
        "mechanism, not the published numbers."
    )
    page.section("What the sampler does")
    page.text(
        "Rows: frames, reconstruction, error of the hidden tokens, the sampler's probability of each token being seen, and what it hid. "
        "Errors are zero where a token was seen."
    )
    for number, picture in enumerate(sorted(Path(pretrained["picture"]).glob("*.png"))):
        page.figure(picture.read_bytes(), f"clip {number}")
    page.section("Training")
    page.figure(
        figures.curves({"reconstruction error": figures.points(_training(logs["pretrain"]), "reconstruction")}, "error"), "pretraining"
    )
    page.figure(
        figures.curves({"entropy of the sampler": figures.points(_training(logs["pretrain"]), "policy_entropy")}, "nats"), "sampler"
    )
    losses = {name: figures.points(_training(logs[key]), "loss") for name, key in (("pretrained", "finetune"), ("from scratch", "scratch"))}
    page.figure(figures.curves(losses, "training loss"), "fine-tuning")
    page.section("Confusion")
    for name in ("finetune", "scratch"):
        labels, matrix = _confusion(out / name / "confusion.csv")
        page.figure(figures.confusion(np.array(matrix), labels), f"{name}: rows are the truth, columns the prediction")
    page.section("Do it yourself")
    page.code(
        "vid pretrain --preset masked/tats-tiny --data YOUR_VIDEOS --out runs/mine\n"
        "vid finetune --preset classify/tiny --from runs/mine --data TRAIN.csv --val VAL.csv --out runs/mine-classifier"
    )
    return page.write(out / "report.html")


def _training(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["kind"] == "train"]


def _confusion(path: Path) -> tuple[list[str], list[list[int]]]:
    with open(path, newline="", encoding="utf-8") as file:
        header, *lines = list(csv.reader(file))
    return header[1:], [[int(count) for count in line[1:]] for line in lines]
