"""`vid detect-boundaries`."""

from functools import partial
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, own_share, report, short

EXAMPLES = options.examples(
    "vid detect-boundaries lecture.mp4",
    "vid detect-boundaries videos/ --out found --write json,csv,edl,html",
    "vid detect-boundaries film.mp4 --only cuts",
    "vid detect-boundaries videos/ --out found --save-scores",
    "vid detect-boundaries --from-scores found/ --threshold 0.7 --out found --overwrite",
    "find . -name '*.mkv' | vid detect-boundaries - --json",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "threshold": ("--threshold", "threshold"),
    "min_gap": ("--min-gap", "min_gap_s"),
    "only": ("--only", "only"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
    "batch_size": ("--batch-size", "batch_size"),
}

Write = typer.Option(metavar="LIST", help="csv, edl, html (NAME.boundaries.csv, ...), besides the JSON record.")
SaveScores = typer.Option("--save-scores", help="Keep the scores too (NAME.boundaries.scores.csv), for --from-scores.")
FromScores = typer.Option("--from-scores", help="The inputs are files of scores, or folders of them: set another threshold, write more.")
Threshold = typer.Option(metavar="P", min=0, max=1, help="Least score of a boundary [default: 0.5, or the model's own].")
MinGap = typer.Option(metavar="SECONDS", min=0, help="Without a model: least distance of two boundaries [default: 0.5].")
Only = typer.Option(
    metavar="KINDS", help="Without a model: cuts, dissolves or events (changes within a shot), or several of them: cuts,dissolves."
)
BatchSize = typer.Option(metavar="N", min=1, help="With a model: windows scored at a time.")


def command(
    videos: options.Videos,
    model: options.DetectorModel = None,
    out: options.OutputDir = None,
    write: Annotated[str | None, Write] = None,
    save_scores: Annotated[bool, SaveScores] = False,
    from_scores: Annotated[bool, FromScores] = False,
    threshold: Annotated[float | None, Threshold] = None,
    min_gap: Annotated[float | None, MinGap] = None,
    only: Annotated[str | None, Only] = None,
    overwrite: options.Overwrite = False,
    shard: options.ShardOf = None,
    strict: options.Strict = False,
    workers: options.Workers = None,
    decoder: options.Decoder = None,
    device: options.Device = None,
    batch_size: Annotated[int | None, BatchSize] = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Find where things change: event boundaries of any video, shot cuts among them.

    Without --model a training-free detector works on any file at once, on the CPU; it tells cuts, dissolves and events within a shot
    apart. Times are presentation times in seconds.
    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.boundaries.detect import run, run_from_scores, saved_inputs
    from tasks.boundaries.writers import SUFFIXES
    from tasks.core.errors import UsageError
    from tasks.core.video.children import default_workers
    from vidcli.resolve import Given, resolve

    flags = options.given_flags(FLAGS, {**locals(), "only": only and [kind.strip() for kind in only.split(",")]})
    settings = resolve(Given(None, config or (), flags, sets or ()), "detect", "boundaries").config
    output = output_to(out, write, SUFFIXES, overwrite, {"--save-scores": "scores"} if save_scores else None)
    if from_scores and settings.model:
        raise UsageError("--from-scores and --model exclude each other: the scores are there already")
    if from_scores:
        found = run_from_scores(settings, own_share(saved_inputs(videos), shard), output, console())
    else:
        found = run(settings, inputs_of(videos, shard), output, default_workers(workers), console())
    return report(found, strict, partial(_lines, written=out is not None), None if out else "boundaries")


def _lines(record: dict[str, Any], written: bool) -> list[dict[str, Any]]:
    """Rows of the table: one per video where files are written, else one per boundary."""
    from tasks.core.report.timeline import clock

    if written:
        count = len(record["boundaries"]) if "boundaries" in record else None
        return [{"video": record["video"], "boundaries": count, "files": short(record["files"])}]
    return [
        {"video": record["video"], "time": clock(b["t"]), "t": f"{b['t']:.3f}", "frame": b["frame"], "score": f"{b['score']:.2f}"}
        | ({"kind": b["kind"]} if "kind" in b else {})
        for b in record["boundaries"]
    ]
