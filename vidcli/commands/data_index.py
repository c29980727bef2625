"""`vid data index`."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid data index videos/ -o videos.csv",
    "vid data index UCF101/ -o ucf101.csv --force",
    "vid data index first.csv@train more/ -o both.jsonl",
)


def command(
    sources: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folder of videos or of class folders, manifest, video.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Manifest to write: .csv or .jsonl.")],
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write a manifest of the videos below a folder; folder names become labels where there is one folder per class."""
    from tasks.core.data.manifest import label_names, read_sources, write_manifest
    from tasks.core.errors import UsageError

    if out.exists() and not force:
        raise UsageError(f"{out} exists", "overwrite it with --force")
    rows = read_sources(sources)
    write_manifest(rows, out)
    reporter = console()
    reporter.info(f"wrote {out}; check it with: vid data check {out}")
    splits = sorted({row.split for row in rows if row.split})
    reporter.result({"manifest": str(out), "videos": len(rows), "labels": len(label_names(rows)), "splits": splits})
    return 0
