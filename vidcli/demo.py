"""What `vid demo` does: videos, pretraining, fine-tuning, the same from scratch, a report."""

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
        {"encoder": "chance", "top1": chance, "+-": None, "top5": min(100.0, 5 * chance), "n": tuned["n"], "views": "-"},
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
    from tasks.core.report.training import write_report
    from tasks.registry import verb_module

    flags = [("vid demo", key, value) for key, value in settings.items()]
    resolved = resolve(Given(preset, flags=flags))
    run = Run.open(folder, resolved.config, resolved.task, resolved.verb, ["vid", "demo"], console, preset)
    if not run.finished:
        console.info(f"{resolved.verb} {folder}")
        verb_module(resolved.task, resolved.verb).run(resolved.config, run)
        write_report(folder)
    return run.result


def _shown(result: Mapping[str, Any]) -> dict[str, Any]:
    share = result["top1"] / 100
    error = 100 * (share * (1 - share) / result["n"]) ** 0.5  # of a share of n videos
    return {
        "top1": round(result["top1"], 1),
        "+-": round(error, 1),
        "top5": round(result["top5"], 1),
        "n": result["n"],
        "views": result["views"],
    }


def _report(out: Path, rows: list[dict[str, Any]], pretrained: Mapping[str, Any], chance: float, seconds: float) -> Path:
    from tasks.core.report import figures
    from tasks.core.report.page import Page
    from tasks.core.report.training import kind_of, logs_of, read_confusion

    logs = {name: logs_of(out / name)[""] for name in ("pretrain", "finetune", "scratch")}
    page = Page(
        "vid demo", "Masked video pretraining with a learned token sampler, fine-tuned and tested beside the same network from scratch"
    )
    page.section("Result").table(list(rows[0]), [[row.get(key, "") for key in rows[0]] for row in rows])
    page.figure(figures.bars({row["encoder"]: row["top1"] for row in rows[:2]}, chance))
    page.text(
        f"Ten motions that single frames cannot tell apart, {rows[0]['n']} test videos; {seconds / 60:.1f} minutes. Behind +- stands the "
        "standard error of a share of so many videos; on other processors the same seed ends a few videos apart. Toy scale shows the "
        "mechanism, not the published numbers."
    )
    page.section("What the sampler does")
    page.text(
        "Rows: frames, reconstruction, error of the hidden tokens, the sampler's probability of each token being seen, and what it hid. "
        "Errors are zero where a token was seen."
    )
    for number, picture in enumerate(sorted(Path(pretrained["picture"]).glob("*.png"))):
        page.wide(picture.read_bytes(), f"clip {number}")
    page.section("Training")
    curves = {
        "pretraining: error of the reconstruction": ({"": ("pretrain", "reconstruction")}, "error"),
        "pretraining: entropy of the sampler": ({"": ("pretrain", "policy_entropy")}, "nats"),
        "fine-tuning: loss": ({"pretrained": ("finetune", "loss"), "from scratch": ("scratch", "loss")}, "loss"),
    }
    page.gallery(
        [
            (figures.curves({name: figures.points(kind_of(logs[run], "train"), key) for name, (run, key) in series.items()}, unit), title)
            for title, (series, unit) in curves.items()
        ]
    )
    page.section("Confusion")
    tested = {name: read_confusion(out / name / "confusion.csv") for name in ("finetune", "scratch")}
    told = "rows are the truth, columns the prediction"
    page.gallery([(figures.confusion(matrix, labels), f"{name}: {told}") for name, (labels, matrix) in tested.items()])
    page.section("Do it yourself")
    page.code(
        "vid pretrain --preset masked/tats-tiny --data YOUR_VIDEOS --out runs/mine\n"
        "vid finetune --preset classify/tiny --from runs/mine --data TRAIN.csv --val VAL.csv --out runs/mine-classifier"
    )
    return page.write(out / "report.html")
