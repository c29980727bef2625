"""`vid detect-events`."""

from functools import partial
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, report, short

EXAMPLES = options.examples(
    "vid detect-events street.mp4 --model runs/finetune-av-events",
    "vid detect-events videos/ --model hf://org/localiser --out found --write json,csv,srt,html",
    "vid detect-events videos/ --model runs/mine --out found --min-score 0.3 --top 20",
    "vid detect-events test.csv --model runs/mine --features visual=i3d/ --features audio=vggish/ --out found --write anet",
    "vid detect-events lecture.mp4 --model runs/mine --proposals --json",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "min_score": ("--min-score", "min_score"),
    "top": ("--top", "top"),
    "proposals": ("--proposals", "proposals"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
}

Model = typer.Option(metavar="MODEL", help="A localiser: model folder, run folder or hf://org/repo[@revision].")
Write = typer.Option(metavar="LIST", help="csv, srt, anet, html (NAME.events.csv, ...), besides the JSON record.")
MinScore = typer.Option(metavar="P", min=0, max=1, help="Least score of an event [default: the model's own, which leaves out little].")
Top = typer.Option(metavar="N", min=1, help="The best N events of each video.")
Proposals = typer.Option("--proposals", help="Events of any kind, without their classes.")
Features = typer.Option(metavar="STREAM=FOLDER", help="Features that were made before, instead of making them. Repeatable.")


def command(
    videos: options.Videos,
    model: Annotated[str | None, Model] = None,
    out: options.OutputDir = None,
    write: Annotated[str | None, Write] = None,
    min_score: Annotated[float | None, MinScore] = None,
    top: Annotated[int | None, Top] = None,
    proposals: Annotated[bool, Proposals] = False,
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
    """Find what happens when, in picture and sound: events with class, start, end and score.

    The model's folder says which features it needs: they are made on the way, window by window. With --write html there is a page with a
    player and a lane for each class. Times are presentation times in seconds.

    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.localization.detect import run
    from tasks.localization.writers import SUFFIXES
    from vidcli.resolve import Given, resolve

    flags = options.given_flags(FLAGS, locals())
    if features:
        flags.append(("--features", "features", options.stream_folders(features)))
    settings = resolve(Given(None, config or (), flags, sets or ()), "detect", "localization").config
    output = output_to(out, write, SUFFIXES, overwrite)
    found = run(settings, inputs_of(videos, shard), output, 0, console())
    lines = partial(_lines, written=out is not None, from_score=settings.min_score)
    return report(found, strict, lines, None if out else "events")


def _lines(record: dict[str, Any], written: bool, from_score: float | None) -> list[dict[str, Any]]:
    """Rows of the table: one per video where files are written, else one per event that is worth showing, in order of time."""
    from tasks.core.report.timeline import clock
    from tasks.localization.result import SHOWN_FROM

    least = SHOWN_FROM if from_score is None else from_score
    events = sorted((e for e in record.get("events", ()) if e["score"] >= least), key=lambda e: (e["start"], e["end"]))
    if written:
        return [{"video": record["video"], "events": len(events) if "events" in record else None, "files": short(record["files"])}]
    return [
        {
            "video": record["video"],
            "event": e.get("label", "event"),
            "start": clock(e["start"]),
            "end": clock(e["end"]),
            "score": f"{e['score']:.2f}",
        }
        for e in events
    ]
