"""`vid data index`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid data index videos/ -o videos.csv",
    "vid data index UCF101/ -o ucf101.csv --force",
)


def command(
    path: Annotated[Path, typer.Argument(help="Folder of videos, folder tree with one folder per class, or a list of videos.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Manifest to write (CSV).")],
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write a manifest of the videos below a folder; folder names become labels where there is one folder per class."""
    from tasks.core.errors import UsageError
    from tasks.core.video.manifest import index_path, label_names, write_manifest

    if out.exists() and not force:
        raise UsageError(f"{out} exists", "overwrite it with --force")
    rows = index_path(path)
    write_manifest(rows, out)
    talk = console()
    talk.info(f"wrote {out}; check it with: vid data check {out}")
    talk.result({"manifest": str(out), "videos": len(rows), "labels": len(label_names(rows)), "splits": sorted({row.split for row in rows if row.split})})
    return 0
