"""`vid align`."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, report, short

EXAMPLES = options.examples(
    "vid align talk.mp4 --text talk.srt --out aligned --write srt",
    "vid align talk.mp4 --text talk.srt --model runs/pretrain-alignment-narrated --out aligned --write srt,html",
    "vid align recipe.mp4 --text steps.txt --model runs/mine --order monotone --json",
    "vid align manifest.csv@val --model runs/mine --out aligned",
    "vid align recipe.mp4 --text steps.txt --model models/tan --features visual=s3d/",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "order": ("--order", "order"),
    "min_score": ("--min-score", "min_score"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
}


class Order(StrEnum):
    """Of `tasks.alignment.config.AlignConfig.order`."""

    free = "free"
    monotone = "monotone"


Text = typer.Option(metavar="FILE", help="Sentences of the video: SRT, WebVTT, JSON, or one a line [default: subtitles of the manifest].")
Model = typer.Option(
    metavar="MODEL", help="An aligner: model folder, run folder or hf://org/repo[@revision] [default: one offset and drift from the sound]."
)
Write = typer.Option(metavar="LIST", help="srt, vtt, html, npz (NAME.alignment.srt, ...), besides the JSON record.")
MinScore = typer.Option(metavar="P", min=0, max=1, help="Least score of a sentence that belongs to the video [default: the model's own].")
Features = typer.Option(metavar="STREAM=FOLDER", help="Features that were made before, instead of making them. Repeatable.")


def command(
    videos: options.Videos,
    text: Annotated[Path | None, Text] = None,
    model: Annotated[str | None, Model] = None,
    order: Annotated[Order | None, typer.Option(help="monotone: sentences stay in their order [default: free].")] = None,
    min_score: Annotated[float | None, MinScore] = None,
    out: options.OutputDir = None,
    write: Annotated[str | None, Write] = None,
    features: Annotated[list[str] | None, Features] = None,
    overwrite: options.Overwrite = False,
    shard: options.ShardOf = None,
    strict: options.Strict = False,
    decoder: options.Decoder = None,
    device: options.Device = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Put sentences where they belong in a video, and tell which do not belong there.

    With a model every sentence of a transcript, a subtitle file or a list gets its time. Without one, subtitles are moved by one offset
    and one drift, so that they are shown when something is heard. Subtitles are written as they came but for their times; the file that
    was given is never changed. Times are presentation times in seconds.

    Exit code 0: every video was aligned; 4: some could not be; 3: none."""
    from tasks.alignment.align import run
    from tasks.alignment.writers import SUFFIXES
    from vidcli.resolve import Given, resolve

    values = locals() | {"order": order and order.value}
    flags = options.given_flags(FLAGS, values)
    if features:
        flags.append(("--features", "features", options.stream_folders(features)))
    settings = resolve(Given(None, config or (), flags, sets or ()), "align", "alignment").config
    output = output_to(out, write, SUFFIXES, overwrite)
    found = run(settings, inputs_of(videos, shard), text, output, 0, console())
    return report(found, strict, partial(_lines, written=out is not None), None if out else "sentences")


def _lines(record: dict[str, Any], written: bool) -> list[dict[str, Any]]:
    """Rows of the table: one per video where files are written, else one per sentence."""
    from tasks.core.report.timeline import clock

    sentences = record.get("sentences", ())
    if written:
        belong = sum(each["alignable"] for each in sentences)
        shift = record.get("shift")
        moved = {} if not shift else {"offset": f"{shift['offset_s']:+.2f} s", "drift": f"{shift['ratio']:.5g}"}
        return [{"video": record["video"], "belong": f"{belong} of {len(sentences)}", **moved, "files": short(record["files"])}]
    return [
        {
            "sentence": each["text"] if len(each["text"]) <= 34 else f"{each['text'][:33]}…",
            "was": clock(each["given_start"]) if "given_start" in each else None,
            "start": clock(each["start"]),
            "end": clock(each["end"]),
            "score": f"{each['score']:.2f}",
            "belongs": "yes" if each["alignable"] else "no",
        }
        for each in sentences
    ]
