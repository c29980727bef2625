"""`vid eval alignment`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid eval alignment --predictions aligned/ --ground-truth htm_align.json",
    "vid eval alignment --predictions found.json --ground-truth truth.json --json",
    "vid eval alignment --predictions similarities.json --ground-truth segmentation_coarse/ --protocol breakfast --decode soft-dtw",
    "vid eval alignment --predictions features.npz --ground-truth youcookii_annotations_trainval.json --protocol youcook2",
)


class Name(StrEnum):
    """Names of `tasks.core.metrics.alignment_files.PROTOCOLS`, which needs numpy."""

    htm_align = "htm-align"
    breakfast = "breakfast"
    youcook2 = "youcook2"


class Decode(StrEnum):
    """Names of `tasks.core.metrics.alignment_files.DECODINGS`."""

    dtw = "dtw"
    soft_dtw = "soft-dtw"


Predictions = typer.Option(
    metavar="PATH",
    help="What vid align wrote, or JSON: {VIDEO: [[second, score], ...]}; breakfast: {VIDEO: [[start, end], ...]} or similarities;"
    " youcook2: similarity, or text and video (JSON or npz).",
)
Truth = typer.Option(
    metavar="PATH",
    help="JSON: {VIDEO: [[flag, start, end, text], ...]}; breakfast: {VIDEO: [[start, end, action], ...]} or the set's text files;"
    " youcook2: sentences or the set's annotations.",
)
Of = typer.Option(help="htm-align: R@1 and AUC; breakfast: F-Acc, IoU, IoD; youcook2: R@k and median rank.")


def command(
    predictions: Annotated[Path, Predictions],
    ground_truth: Annotated[Path, Truth],
    protocol: Annotated[Name, Of] = Name.htm_align,
    decode: Annotated[Decode, typer.Option(help="breakfast: how similarities become segments.")] = Decode.dtw,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the result to this JSON file too.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Score sentences that were aligned with videos, as the public evaluators count.

    A sentence is found where the second given for it lies between its start, rounded down, and its end, rounded up. AUC tells how well
    scores separate the sentences that belong to the video from those that do not. Results are fractions."""
    from tasks.core.files import make_folder, write_json
    from tasks.core.metrics.alignment_files import run

    reporter = console()
    if out:
        make_folder(out.parent)
    result = run(predictions, ground_truth, reporter, protocol.value, decode.value)
    if out:
        write_json(out, result)
    reporter.result(result, "result")
    return 0
