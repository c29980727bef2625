"""`vid data import`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

if TYPE_CHECKING:
    from tasks.core.data.segments.annotations import Choices

EXAMPLES = options.examples(
    "vid data import unav100_annotations.json --videos unav100/ -o unav100.csv",
    "vid data import EPIC_100_train.csv --label noun -o epic-nouns.csv",
    "vid data import htm_align.json --videos howto100m/ -o htm_align.jsonl",
    "vid data import oops_dataset/annotations/transition_times.json --videos oops_dataset/oops_video -o oops.csv",
    "vid data import k400_val_raw_annotation.pkl -o val.json",
    "vid data import k400_mr345_val_min_change_duration0.3.pkl --videos kinetics/val -o val.json",
    "vid data import tapos_annotation.json --split train --videos tapos/ -o train.json",
)


class Format(StrEnum):
    """Names of `tasks.core.data.segments.formats.FORMATS` and `tasks.boundaries.annotations.FORMATS`, which need numpy."""

    auto = "auto"
    activitynet = "activitynet"
    thumos14 = "thumos14"
    epic100 = "epic100"
    htm_align = "htm-align"
    oops = "oops"
    gebd = "gebd"
    gebd_raw = "gebd-raw"
    tapos = "tapos"


class Label(StrEnum):
    """Names of `tasks.core.data.segments.epic.LABELS`."""

    verb = "verb"
    noun = "noun"
    action = "action"


class Rules(StrEnum):
    """How raw marks become boundaries."""

    public = "public"
    written = "written"


Window = typer.Option(metavar="SECONDS", min=0.04, help="oops: length of the clips that videos are cut into [default: 1].")
Step = typer.Option(metavar="SECONDS", min=0.04, help="oops: from the start of one clip to the start of the next [default: 0.25].")


def command(
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="ANNOTATIONS",
            help="Official file: of segments (JSON of ActivityNet, UnAV-100, THUMOS14, HTM-Align, Oops; CSV of EPIC-KITCHENS-100) or of "
            "boundaries (.pkl of Kinetics-GEBD, .json of TAPOS).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Of segments: manifest to write, .csv or .jsonl. Of boundaries: truth as .json, for vid finetune and vid eval boundaries.",
        ),
    ],
    format: Annotated[Format, typer.Option(help="auto tells by the content.")] = Format.auto,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Subset to keep [default: all; of TAPOS: val]; of a file that names none, the split to write."),
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Find each video below it by its name; segments of one that is not there are left out."),
    ] = None,
    label: Annotated[Label | None, typer.Option(help="epic100: what is the label [default: verb].")] = None,
    window: Annotated[float | None, Window] = None,
    step: Annotated[float | None, Step] = None,
    rules: Annotated[
        Rules, typer.Option(help="gebd-raw; public: bit for bit the labels of the authors' script; written: its rules without its slips.")
    ] = Rules.public,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Turn published annotations into a manifest with a row for each segment, or event boundaries into a truth file (JSON).

    Nothing is changed silently: what is odd is counted, and what a manifest cannot hold is left out and counted.
    Pickles are read as plain data: what they name is never imported or run."""
    from tasks.core.data.segments.annotations import Choices
    from tasks.core.errors import UsageError

    if out.exists() and not force:
        raise UsageError(f"{out} exists", "overwrite it with --force")
    content, kind = _recognised(annotations, format)
    if kind in _boundary_formats():
        if unfit := [flag for flag, value in (("--label", label), ("--window", window), ("--step", step)) if value is not None]:
            raise UsageError(f"{unfit[0]} is of segments, these are boundaries")
        counts = _import_boundaries(annotations, out, kind, split, videos, rules)
    else:
        counts = _import_segments(content, annotations, out, kind, videos, Choices(split, label and label.value, window, step))
    console().result(counts)
    return 0


def _boundary_formats() -> tuple[str, ...]:
    from tasks.boundaries.annotations import FORMATS

    return FORMATS[1:]


def _recognised(file: Path, format: Format) -> tuple[Any, str]:
    """(content of a file of segments or None, name of its format)"""
    from tasks.boundaries import annotations as boundaries
    from tasks.core.data.segments import formats as segments
    from tasks.core.errors import InputError

    if format.value in boundaries.FORMATS[1:]:
        return None, format.value
    content = segments.load_content(file)
    if format is not Format.auto:
        return content, format.value
    kind = segments.recognise(content) or boundaries.recognise(content if content is not None else boundaries.load(file))
    if kind is None:
        raise InputError(
            f"{file}: the format of these annotations is not known",
            f"known formats: {', '.join([*segments.FORMATS, *boundaries.FORMATS[1:]])}",
        )
    return content, kind


def _import_segments(content: Any, file: Path, out: Path, kind: str, videos: Path | None, choices: "Choices") -> dict[str, Any]:
    from tasks.core.data.manifest import write_manifest
    from tasks.core.data.segments.formats import find_videos, read_segments
    from tasks.core.errors import InputError, UsageError

    if out.suffix.lower() not in (".csv", ".jsonl", ".ndjson"):
        raise UsageError(f"--out {out}: segments are written as a manifest", "name it .csv or .jsonl")
    reporter = console()
    found = read_segments(content, os.fspath(file), kind, choices)
    named = len({row.path for row in found.rows})
    for fact in found.facts:
        reporter.info(fact)
    for reason, count in found.noted.items():
        reporter.info(f"{count} of {len(found.rows)} segments {reason}; kept as they are")
    missing = find_videos(found, videos) if videos else []
    for reason, count in found.left_out.items():
        reporter.warn(f"left out {count}: {reason}")
    if not found.rows:
        raise InputError(f"none of the {named} videos is below {videos}", f"the first is called '{missing[0]}'")
    if missing:
        reporter.warn(f"{len(missing)} of {named} videos are not below {videos}, the first is '{missing[0]}'")
    if not videos:
        folder = os.path.abspath(out.parent)
        for row in found.rows:
            row.path = os.path.join(folder, row.path)
        reporter.info("paths are names of videos, which do for features; --videos FOLDER finds the files")
    write_manifest(found.rows, out)
    splits = sorted({row.split for row in found.rows if row.split})
    counts = {"manifest": os.fspath(out), "format": kind, "videos": len({row.path for row in found.rows}), "segments": len(found.rows)}
    counts |= {
        "classes": len({row.label for row in found.rows if row.label is not None}),
        "texts": sum(row.text is not None for row in found.rows),
    }
    counts |= {"splits": splits, "noted": dict(found.noted), "left_out": found.left_out.total(), "reasons": dict(found.left_out)}
    return counts | ({"with_video": named - len(missing), "without_video": len(missing)} if videos else {})


def _import_boundaries(file: Path, out: Path, kind: str, split: str | None, videos: Path | None, rules: Rules) -> dict[str, Any]:
    from tasks.boundaries.annotations import add_paths, import_annotations, place
    from tasks.core.errors import UsageError
    from tasks.core.files import write_json

    if out.suffix.lower() in (".csv", ".jsonl", ".ndjson"):
        raise UsageError(f"--out {out}: boundaries are written as JSON", "name it .json")
    reporter = console()
    found = import_annotations(file, kind, split, rules.value)
    place(found.truth, file.parent)
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
    return counts
