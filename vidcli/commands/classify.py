"""`vid classify`."""

from functools import partial
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, report, short

EXAMPLES = options.examples(
    "vid classify clip.mp4 --model runs/finetune-classify-tiny",
    "vid classify videos/ --model runs/mine --top 3 --out found --write json,csv,html",
    "vid classify lecture.mp4 --model hf://org/name --hop 2 --out found --write html",
    "vid classify test.csv@val --model runs/mine --json > labels.jsonl",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "top": ("--top", "top"),
    "clips": ("--clips", "clips"),
    "crops": ("--crops", "crops"),
    "hop": ("--hop", "hop_s"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
    "batch_size": ("--batch-size", "batch_size"),
}

Model = typer.Option(metavar="MODEL", help="A classifier: model folder, run folder or hf://org/repo[@revision].")
Top = typer.Option(metavar="N", min=1, help="Name the N most probable classes [default: 5].")
Write = typer.Option(metavar="LIST", help="csv, html (NAME.labels.csv, ...), besides the JSON record.")
Clips = typer.Option(metavar="N", min=1, help="Windows spread over a video; one too long for them is seen window by window [default: 5].")
Crops = typer.Option(metavar="N", help="Squares of each window: 1, 3 or 10 [default: 3].")
Hop = typer.Option(metavar="SECONDS", help="See every video window by window, so far apart [default: window after window, in long ones].")
BatchSize = typer.Option(metavar="N", min=1, help="Windows at a time.")


def command(
    videos: options.Videos,
    model: Annotated[str, Model],
    top: Annotated[int | None, Top] = None,
    out: options.OutputDir = None,
    write: Annotated[str | None, Write] = None,
    clips: Annotated[int | None, Clips] = None,
    crops: Annotated[int | None, Crops] = None,
    hop: Annotated[float | None, Hop] = None,
    overwrite: options.Overwrite = False,
    shard: options.ShardOf = None,
    strict: options.Strict = False,
    decoder: options.Decoder = None,
    device: options.Device = None,
    batch_size: Annotated[int | None, BatchSize] = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Name what videos show, by a classifier that vid finetune trained.

    Probabilities are those of vid eval classify: the mean over windows that are spread over the video and over squares of each. A video
    too long for that is seen window by window, and what it shows when is told too. Times are presentation times in seconds.

    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.classify.label import run
    from tasks.classify.label_writers import SUFFIXES
    from vidcli.resolve import Given, resolve

    flags = options.given_flags(FLAGS, locals())
    settings = resolve(Given(None, config or (), flags, sets or ()), "label", "classify").config
    output = output_to(out, write, SUFFIXES, overwrite)
    found = run(settings, inputs_of(videos, shard), output, console())
    return report(found, strict, partial(_lines, written=out is not None))


def _lines(record: dict[str, Any], written: bool) -> list[dict[str, Any]]:
    """Rows of the table: one per video where files are written; else its classes, and the parts of a long one."""
    from tasks.core.report.timeline import clock

    labels, parts = record.get("labels", []), record.get("parts", [])
    if written:
        best = labels[0] if labels else {"label": None, "score": None}
        score = None if best["score"] is None else f"{best['score']:.2f}"
        return [{"video": record["video"], "label": best["label"], "score": score, "files": short(record["files"])}]
    rows = [("all", label["label"], label["score"]) for label in labels]
    rows += [(f"{clock(part['start'])} - {clock(part['end'])}", part["label"], part["score"]) for part in parts]
    return [{"video": record["video"], "when": when, "label": label, "score": f"{score:.2f}"} for when, label, score in rows]
