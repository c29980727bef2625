"""`vid data check`."""

from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples("vid data check train.csv", "vid data check train.csv --json > report.jsonl", "vid data check videos/ -q")
COLUMNS = ["path", "frames", "fps", "vfr", "codec", "b_frames", "reader", "problems"]


def command(
    sources: Annotated[list[str], typer.Argument(metavar="MANIFEST...", help="Manifests, folders or videos.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Read every video once and report what is unusable and why, before any GPU starts.

    Exit code 0: all are fine; 4: some are not; 3: none is."""
    from tasks.core.video.check import check_rows
    from tasks.core.video.manifest import read_sources

    talk = console()
    results = []
    for result in check_rows(read_sources(sources, None), talk=talk):
        results.append(result)
        if talk.json:
            talk.emit(vars(result))
    return 0
