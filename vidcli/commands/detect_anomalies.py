"""`vid detect-anomalies`."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, report, short

EXAMPLES = options.examples(
    "vid detect-anomalies yard.mp4",
    "vid detect-anomalies videos/ --normal quiet-days/ --out found --write json,csv,html,mp4",
    "vid detect-anomalies today.mp4 --normal quiet-days/ --fail-above 0.9 -q || alarm",
    "vid detect-anomalies videos/ --model runs/yard --out found --write html",
    "find . -name '*.mkv' | vid detect-anomalies - --json",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "normal": ("--normal", "normal"),
    "first_part": ("--first-part", "first_part"),
    "threshold": ("--threshold", "threshold"),
    "fail_above": ("--fail-above", "fail_above"),
    "min_duration": ("--min-duration", "min_duration_s"),
    "join_gap": ("--join-gap", "join_gap_s"),
    "smooth": ("--smooth", "smoothing_s"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
    "batch_size": ("--batch-size", "batch_size"),
}
ALARM = 10

Normal = typer.Option(metavar="PATH", help="Normal footage of the same camera: video, folder or manifest. Repeatable.")
FirstPart = typer.Option(metavar="SHARE", help="Without --model and --normal: share of each video that is normal [default: 0.25].")
Write = typer.Option(metavar="LIST", help="csv, html, mp4 (NAME.anomalies.csv, ...), besides the JSON record.")
Threshold = typer.Option(metavar="S", help="Least score of an anomalous frame [default: 0.5, or the model's own].")
FailAbove = typer.Option(metavar="S", help="Exit with 10 if any frame scores more than this.")
MinDuration = typer.Option(metavar="SECONDS", min=0, help="Shorter intervals are dropped [default: 0].")
JoinGap = typer.Option(metavar="SECONDS", min=0, help="Intervals no further apart than this become one [default: 0].")
Smooth = typer.Option(metavar="SECONDS", min=0, help="Standard deviation of a Gaussian over the scores [default: 0, none].")
BatchSize = typer.Option(metavar="N", min=1, help="With a model: windows scored at a time.")


def command(
    videos: options.Videos,
    model: options.DetectorModel = None,
    normal: Annotated[list[str] | None, Normal] = None,
    first_part: Annotated[float | None, FirstPart] = None,
    out: options.OutputDir = None,
    write: Annotated[str | None, Write] = None,
    threshold: Annotated[float | None, Threshold] = None,
    fail_above: Annotated[float | None, FailAbove] = None,
    min_duration: Annotated[float | None, MinDuration] = None,
    join_gap: Annotated[float | None, JoinGap] = None,
    smooth: Annotated[float | None, Smooth] = None,
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
    """Find what is out of the ordinary in footage of a fixed camera: a score per frame, and intervals.

    Without --model a detector learns on the spot, from --normal or from the first part of each video, on the CPU. Times are
    presentation times in seconds. With --json each video is one line that holds the scores of all its frames.
    Exit code 0: every video was read; 4: some could not be; 3: none. With --fail-above S, 10: every video was read and a frame scored
    more than S; all files are written before."""
    from tasks.anomalies.detect import run
    from tasks.anomalies.writers import SUFFIXES
    from tasks.core.video.children import default_workers
    from vidcli.resolve import Given, resolve

    flags = options.given_flags(FLAGS, locals())
    settings = resolve(Given(None, config or (), flags, sets or ()), "detect", "anomalies").config
    output = output_to(out, write, SUFFIXES, overwrite)
    alarms: list[str] = []
    found = run(settings, inputs_of(videos, shard), output, default_workers(workers), console())
    found = _watched(found, settings.fail_above, alarms)
    code = report(found, strict, partial(_lines, written=out is not None), None if out else "intervals")
    return ALARM if alarms and code == 0 else code


def _watched(found: Iterable[dict[str, Any]], limit: float | None, alarms: list[str]) -> Iterator[dict[str, Any]]:
    """Passes records on; says which video went above the limit, and notes its name."""
    from tasks.core.report.timeline import clock

    for record in found:
        peak = record.get("peak")
        if limit is not None and peak is not None and peak["score"] > limit:
            alarms.append(record["video"])
            console().warn(f"{record['video']}: score {peak['score']:.3g} at {clock(peak['t'])} is above {limit:g}")
        yield record


def _lines(record: dict[str, Any], written: bool) -> list[dict[str, Any]]:
    """Rows of the table: one per video where files are written, else one per interval."""
    from tasks.core.report.timeline import clock

    if written:
        peak = record.get("peak")
        return [
            {
                "video": record["video"],
                "intervals": len(record["intervals"]) if "intervals" in record else None,
                "peak": f"{peak['score']:.2f}" if peak else None,
                "at": clock(peak["t"]) if peak else None,
                "files": short(record["files"]),
            }
        ]
    return [
        {
            "video": record["video"],
            "start": clock(i["start_s"]),
            "end": clock(i["end_s"]),
            "frames": f"{i['start_frame']}-{i['end_frame']}",
            "peak": f"{i['peak']:.2f}",
            "at": clock(i["peak_s"]),
        }
        for i in record["intervals"]
    ]
