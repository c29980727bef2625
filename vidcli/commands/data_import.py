"""`vid data import`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid data import k400_val_raw_annotation.pkl -o val.json",
    "vid data import k400_mr345_val_min_change_duration0.3.pkl --videos kinetics/val -o val.json",
    "vid data import tapos_annotation.json --split train --videos tapos/ -o train.json",
)


class Format(StrEnum):
    """Names of `tasks.boundaries.annotations.FORMATS`, which needs numpy."""

    auto = "auto"
    gebd = "gebd"
    gebd_raw = "gebd-raw"
    tapos = "tapos"


class Rules(StrEnum):
    """How raw marks become boundaries."""

    public = "public"
    written = "written"


def command(
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS", help="Official file of Kinetics-GEBD (.pkl) or TAPOS (.json).")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.json", help="Truth to write, for vid finetune and vid eval boundaries.")
    ],
    format: Annotated[Format, typer.Option(help="auto tells by the content.")] = Format.auto,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="Subset of a TAPOS file [default: val].")] = None,
    videos: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Add the path of each video found below it by its name.")] = None,
    rules: Annotated[
        Rules, typer.Option(help="gebd-raw; public: bit for bit the labels of the authors' script; written: its rules without its slips.")
    ] = Rules.public,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Turn published event boundary annotations into this tool's truth file (JSON).

    Pickles are read as plain data: what they name is never imported or run."""
    from tasks.boundaries.annotations import add_paths, import_annotations, place
    from tasks.core.errors import UsageError
    from tasks.core.files import write_json

    if out.exists() and not force:
        raise UsageError(f"{out} exists", "overwrite it with --force")
    reporter = console()
    found = import_annotations(annotations, format.value, split, rules.value)
    place(found.truth, annotations.parent)
    missing = add_paths(found.truth, videos) if videos else []
    place(found.truth, out.parent, relative=True)
    write_json(out, found.truth)
    for reason, count in found.left_out.items():
        reporter.info(f"left out {count}: {reason}")
    if missing:
        reporter.warn(f"{len(missing)} of {len(found.truth)} videos are not below {videos}, the first is '{missing[0]}'; they have no path")
    counts = {"truth": os.fspath(out), "format": found.format, "videos": len(found.truth)}
    counts["boundaries"] = sum(len(entry["substages_timestamps"][0]) for entry in found.truth.values() if entry["substages_timestamps"])
    counts["left_out"] = found.left_out.total()
    if videos:
        counts |= {"with_video": len(found.truth) - len(missing), "without_video": len(missing)}
    reporter.result(counts)
    return 0
