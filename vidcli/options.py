"""Options that several commands share, each written once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import presets
from vidcli.console import console


def _switch(name: str):
    """A callback that turns on one switch of the console."""

    def callback(value: bool) -> bool:
        if value:
            setattr(console(), name, True)
        return value

    return callback


Json = Annotated[bool, typer.Option("--json", callback=_switch("json"), help="Results as JSON, one object per line, on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_switch("quiet"), help="Warnings and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=_switch("verbose"), help="Say more.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_switch("debug"), help="Show tracebacks (also: VID_DEBUG=1).")]

PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        "-p",
        metavar="NAME",
        autocompletion=presets.complete,
        help="Built-in name, YAML file or hf://org/repo[/file][@revision].",
    ),
]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML over the preset, e.g. config.yaml of a run. Repeatable."),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Any setting: --set optim.base_lr=1e-3. Repeatable.")
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes that read videos (also: VID_WORKERS).")]
Decoder = Annotated[str | None, typer.Option("--decoder", metavar="NAME", help="auto, pyav or decord (also: VID_DECODER).")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first unreadable video instead of skipping it.")]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="Part K of N of the inputs [default: the place in a SLURM array, else everything]."),
]
Videos = Annotated[
    list[str], typer.Argument(metavar="VIDEO...", help="Videos, folders, patterns, manifests; - reads paths from standard input.")
]
OutputDir = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Write files here; what is there already is not done again.")
]
DetectorModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help="Model folder, run folder or hf://org/repo[@revision] [default: the training-free detector]."
    ),
]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="Where a network runs: auto, cpu, cuda, cuda:1.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do again what is there.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


def given_flags(flags: dict[str, tuple[str, str]], values: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(flag, key, value) of the options that were given; 0 counts, a switch that is off does not.

    Args:
        flags: parameter -> (flag as typed, dotted key of the configuration).
        values: parameter -> value.
    """
    found = [(flag, key, values[parameter]) for parameter, (flag, key) in flags.items()]
    return [item for item in found if item[2] is not None and item[2] is not False and item[2] != []]


def stream_folders(given: list[str]) -> dict[str, str]:
    """Stream -> folder; UsageError where one is written otherwise."""
    from tasks.core.errors import UsageError

    found = {}
    for item in given:
        name, equals, folder = item.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--features {item} does not name a stream and a folder", "for example: --features visual=FOLDER")
        found[name] = folder
    return found


def examples(*lines: str) -> str:
    """The end of a command's help: commands that can be run as they stand, not rewrapped."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
