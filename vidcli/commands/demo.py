"""`vid demo`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples("vid demo", "vid demo --out /tmp/demo --seed 1")


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where videos, runs and report.html go.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(metavar="N", help="Of videos, weights and order.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """See it work: everything from videos to a report, in minutes.

    Renders videos of motions, pretrains, fine-tunes, compares with training from scratch and writes a report.

    Takes some minutes on two cores and needs no data and no network."""
    from vidcli.demo import run_demo

    run_demo(out, console(), seed)
    return 0
