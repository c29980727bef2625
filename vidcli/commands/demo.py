"""`vid demo`."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.core.errors import UsageError
from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid demo", "vid demo --out /tmp/demo --seed 1", "vid demo --captions -o shapes", "vid demo --captions --scenes 4 -o films"
)


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where videos, runs and report.html go.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(metavar="N", help="Of videos, weights and order.")] = 0,
    captions: Annotated[
        bool, typer.Option("--captions", help="Only render videos of coloured shapes that move, each with a sentence, and stop.")
    ] = False,
    scenes: Annotated[int, typer.Option(metavar="N", help="With --captions: sentences of a video, one after the other.")] = 1,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """See it work: everything from videos to a report, in minutes.

    Renders videos of motions, pretrains, fine-tunes, compares with training from scratch and writes a report.

    Takes some minutes on two cores and needs no data and no network."""
    from vidcli.demo import render_captions, run_demo

    if captions:
        console().result(render_captions(out, console(), seed, scenes))
    elif scenes != 1:
        raise UsageError("--scenes is about captioned videos", "add --captions")
    else:
        run_demo(out, console(), seed)
    return 0
