"""`vid eval anomalies`."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid eval anomalies --predictions found/ --ground-truth test_labels.csv",
    "vid eval anomalies --predictions found/ --ground-truth test_labels.csv --page result.html",
    "vid eval anomalies --predictions scores.csv --ground-truth frame_labels_ped2.npy --trim 8,7 --json",
    "vid eval anomalies --predictions found/ --ground-truth test_labels.csv --protocol macro-auc --one-class skip",
    "vid eval anomalies --predictions found/ --ground-truth test_labels.csv --smooth 0.5s --normalize per_video_minmax",
)


class Name(StrEnum):
    """Names of `tasks.core.metrics.anomalies.PROTOCOLS`, which needs numpy."""

    micro = "micro-auc"
    macro = "macro-auc"


class Normalize(StrEnum):
    """What is done to the scores of each video."""

    none = "none"
    per_video_minmax = "per_video_minmax"


class OneClass(StrEnum):
    """What macro-auc does about videos whose frames are all of one class."""

    pad = "pad"
    skip = "skip"


class Missing(StrEnum):
    """What happens to labelled frames without a score."""

    error = "error"
    drop = "drop"


Predictions = typer.Option(metavar="PATH", help="CSV video,frame,score, or what vid detect-anomalies wrote: file, folder, JSON Lines.")
Truth = typer.Option(metavar="PATH", help="CSV video,frame,label; frame_labels_*.npy; folder of *.npy or of UBnormal's *_tracks.txt.")
Smooth = typer.Option(metavar="SIGMA", help="Gaussian over the scores of each video: 0.5s (seconds) or 5f (frames) [default: none].")
Trim = typer.Option(metavar="A,B", help="First and last frames of every video that do not count; 8,7 in papers with windows of 16.")


def command(
    predictions: Annotated[Path, Predictions],
    ground_truth: Annotated[Path, Truth],
    protocol: Annotated[Name, typer.Option(help="micro-auc: one AUC of all frames; macro-auc: mean of the videos'.")] = Name.micro,
    smooth: Annotated[str | None, Smooth] = None,
    normalize: Annotated[Normalize, typer.Option(help="Done to each video after smoothing.")] = Normalize.none,
    one_class: Annotated[
        OneClass,
        typer.Option(help="macro-auc: pad adds a normal frame of score 0 and an anomalous one of score 1 to every video (UBnormal)."),
    ] = OneClass.pad,
    trim: Annotated[str, Trim] = "0,0",
    missing: Annotated[Missing, typer.Option(help="Labelled frames without a score: stop, or drop them.")] = Missing.error,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the result to this JSON file too.")] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page: ROC curve, histogram of scores, videos.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Score anomaly detection by frames: the area under the ROC curve, as the field measures it.

    Scores are taken as they are unless --smooth or --normalize say otherwise; the result names what was done."""
    from tasks.anomalies.evaluate import Protocol, run
    from tasks.core.files import write_json

    chosen = Protocol(protocol.value, _sigma(smooth), normalize.value, one_class.value, _trim(trim), missing.value)
    reporter = console()
    result = run(predictions, ground_truth, reporter, chosen, page)
    if out:
        write_json(out, result)
    if reporter.json:
        reporter.emit(result)
    else:
        reporter.table([{"video": video, **_row(values)} for video, values in result["videos"].items()])
        reporter.text("")
        parts = {f"auc of {name}": _text(value) for name, value in result["parts"].items()}
        measures = {name: _text(result[name]) for name in ("auc", "eer", "ap")}
        rest = {name: value for name, value in result.items() if name not in ("videos", "parts", *measures)}
        reporter.result({**measures, **parts, **rest})
    return 0


def _row(values: dict[str, Any]) -> dict[str, Any]:
    return {"auc": _text(values["auc"]), "frames": values["n_frames"], "anomalous": values["n_anomalous"]}


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _sigma(text: str | None) -> Any:
    """`0.5s` -> (0.5, "s"), `5f` -> (5.0, "frames")."""
    from tasks.core.errors import UsageError

    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)(s|f)", text.strip())
    if not match or float(match[1]) == 0:
        raise UsageError(f"--smooth {text}: a positive number with its unit is expected", "0.5s for seconds, 5f for frames")
    return float(match[1]), "s" if match[2] == "s" else "frames"


def _trim(text: str) -> tuple[int, int]:
    from tasks.core.errors import UsageError

    match = re.fullmatch(r"(\d+),(\d+)", text.replace(" ", ""))
    if not match:
        raise UsageError(f"--trim {text}: two numbers of frames are expected", "for example 8,7")
    return int(match[1]), int(match[2])
