"""`vid eval boundaries`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid eval boundaries --predictions found/ --ground-truth val.json",
    "vid eval boundaries --predictions found.jsonl --ground-truth val.json --json",
    "vid eval boundaries --predictions submission.pkl --ground-truth k400_mr345_val_min_change_duration0.3.pkl --missing error",
)


class Protocol(StrEnum):
    """Names of `tasks.core.metrics.boundaries.PROTOCOLS`, which needs numpy."""

    gebd = "gebd"
    tapos = "tapos"


class Missing(StrEnum):
    """What happens to a video without predictions."""

    count = "count"
    drop = "drop"
    error = "error"


def command(
    predictions: Annotated[Path, typer.Option(metavar="PATH", help="{video: [seconds, ...]} as JSON, or output of vid detect-boundaries.")],
    ground_truth: Annotated[Path, typer.Option(metavar="FILE", help="Truth as JSON (vid data import) or an official annotation file.")],
    protocol: Annotated[Protocol, typer.Option(help="gebd: Kinetics-GEBD; tapos: instances with a boundary inside.")] = Protocol.gebd,
    min_consistency: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, max=1, help="Drop videos whose annotators agree less than this [default: gebd 0.3, tapos none]."),
    ] = None,
    missing: Annotated[
        Missing, typer.Option(help="Videos without predictions: count them as empty ones, drop them, or stop.")
    ] = Missing.count,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the result to this JSON file too.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Score predicted event boundaries: F1 at relative distances 0.05 to 0.50, as the public Kinetics-GEBD scorer does.

    Times are seconds from the start of the video. Videos without predictions count the boundaries of the first annotator as missed."""
    from tasks.boundaries.evaluate import run
    from tasks.core.files import make_folder, write_json

    reporter = console()
    if out:
        make_folder(out.parent)
    result = run(predictions, ground_truth, reporter, protocol.value, min_consistency, missing.value)
    if out:
        write_json(out, result)
    if reporter.json:
        reporter.emit(result)
    else:
        reporter.table(_rows(result))
        reporter.text("")
        reporter.result({name: value for name, value in result.items() if not isinstance(value, dict) and not name.startswith("avg_")})
    return 0


def _rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per distance, and their means."""
    measures = ("precision", "recall", "f1")
    rows = [{"distance": name, **{m: f"{result[m][name]:.4f}" for m in measures}} for name in result["f1"]]
    return [*rows, {"distance": "mean", **{m: f"{result[f'avg_{m}']:.4f}" for m in measures}}]
