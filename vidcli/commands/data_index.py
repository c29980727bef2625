"""`vid data index`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid data index videos/ -o videos.csv",
    "vid data index UCF101/ -o ucf101.csv --force",
    "vid data index first.csv@train more/ -o both.jsonl",
    "vid data index videos/ --split 0.8 -o videos.csv",
    "vid data index people.csv --split 0.8 --group person -o divided.csv",
    "vid data index kinetics.csv@train --fraction 0.15 --stratify label -o part.csv",
)

SPLIT_HELP = "Share of every class for training, the rest for validation: fills the column split. Rows of a video stay together."
GROUP_HELP = "With --split: rows with the same value in this column (person, source) stay together."
FRACTION_HELP = "Keep only this share of the rows."
STRATIFY_HELP = "With --fraction: of every value in this column, say label."


def command(
    sources: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folder of videos or of class folders, manifest, video.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Manifest to write: .csv or .jsonl.")],
    split: Annotated[float | None, typer.Option(metavar="SHARE", help=SPLIT_HELP)] = None,
    group: Annotated[str | None, typer.Option(metavar="COLUMN", help=GROUP_HELP)] = None,
    fraction: Annotated[float | None, typer.Option(metavar="SHARE", help=FRACTION_HELP)] = None,
    stratify: Annotated[str | None, typer.Option(metavar="COLUMN", help=STRATIFY_HELP)] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the draws.")] = 0,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write a manifest of the videos below a folder; folder names become labels where there is one folder per class."""
    from tasks.core.data.division import column
    from tasks.core.data.fraction import draw_fraction
    from tasks.core.data.manifest import label_names, read_sources, write_manifest
    from tasks.core.errors import UsageError

    if out.exists() and not force:
        raise UsageError(f"{out} exists", "overwrite it with --force")
    for flag, share in (("--split", split), ("--fraction", fraction)):
        if share is not None and not 0 < share < 1:
            raise UsageError(f"{flag} {share:g} is not a share between 0 and 1", f"for example: {flag} 0.8")
    for flag, given, needed, share in (("--group", group, "--split", split), ("--stratify", stratify, "--fraction", fraction)):
        if given is not None and share is None:
            raise UsageError(f"{flag} belongs to {needed}", f"add {needed} SHARE")
    rows = read_sources(sources)
    if fraction is not None:
        rows = draw_fraction(rows, fraction, seed, column(rows, stratify) if stratify else None)
    if split is not None:
        rows = _divided(rows, split, seed, group)
    write_manifest(rows, out)
    reporter = console()
    reporter.info(f"wrote {out}; check it with: vid data check {out}")
    splits = dict(sorted(Counter(row.split for row in rows if row.split).items()))
    reporter.result({"manifest": str(out), "videos": len(rows), "labels": len(label_names(rows)), "splits": splits})
    return 0


def _divided(rows: Any, share: float, seed: int, group: str | None) -> list[Any]:
    """The rows with their split; UsageError where they have splits already."""
    from dataclasses import replace

    from tasks.core.data.division import TRAIN, VAL, divide
    from tasks.core.errors import UsageError

    present = rows.codes("split")[1]
    if len(present) > 1:
        raise UsageError(
            f"these rows have splits already: {', '.join(present)}", f"divide one of them: PATH@{present[0]}, or leave --split out"
        )
    return [replace(row, split=TRAIN if trained else VAL) for row, trained in zip(rows, divide(rows, share, seed, group), strict=True)]
