"""`vid runs list`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples("vid runs list", "vid runs list experiments/ --json")


def command(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="FOLDER...", help="Where run folders lie [default: runs].")] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """List run folders: state, step, time left, last metric, size."""
    from vidcli.runs import COLUMNS, find, state

    talk = console()
    rows = [state(folder) for folder in find(folders or [Path("runs")])]
    if talk.json:
        talk.table(rows)
    elif rows:
        talk.table([{**row, "size": f"{row['bytes'] / 2**20:.0f} MiB"} for row in rows], COLUMNS)
    talk.info(f"{len(rows)} runs")
    return 0
