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
    from tasks.core.errors import UsageError
    from vidcli.runs import COLUMNS, find, state

    reporter = console()
    for folder in folders or []:
        if not folder.is_dir():
            raise UsageError(f"there is not a folder {folder}", "vid runs list FOLDER goes through the run folders below it")
    rows = [state(folder) for folder in find(folders or [Path("runs")])]
    if reporter.json:
        reporter.table(rows)
    elif rows:
        reporter.table([{**row, "size": f"{row['bytes'] / 2**20:.0f} MiB"} for row in rows], COLUMNS)
    for row in rows:
        if row["state"] == "damaged":
            reporter.warn(f"{row['run']}: {', '.join(row['damaged'])} cannot be understood")
    reporter.info(f"{len(rows)} runs")
    return 0
