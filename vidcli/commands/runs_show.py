"""`vid runs show`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples("vid runs show runs/pretrain-masked-tats-tiny", "vid runs show runs/mine --json")


def command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Show where a run stands and how to continue it."""
    from tasks.core.errors import UsageError
    from vidcli.runs import is_run, state

    if not is_run(folder):
        raise UsageError(f"{folder} is not a run folder", "vid runs list FOLDER finds them")
    console().result(state(folder), "run")
    return 0
