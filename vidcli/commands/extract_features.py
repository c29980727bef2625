"""`vid extract-features`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import own_share, report, short

EXAMPLES = options.examples(
    "vid extract-features videos/ --model runs/mine --out features",
    "vid extract-features talk.mp4 --model hf://org/videomae --out features --per window --hop 0.5",
    "find . -name '*.mkv' | vid extract-features - --model runs/mine --out features --json",
    "python -c \"import numpy; print(numpy.load('features/reporter.features.npz')['features'].shape)\"",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "per": ("--per", "per"),
    "clips": ("--clips", "clips"),
    "crops": ("--crops", "crops"),
    "hop": ("--hop", "hop_s"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
    "batch_size": ("--batch-size", "batch_size"),
}

Model = typer.Option(metavar="MODEL", help="A model with an encoder of clips: folder, run folder or hf://org/repo[@revision].")
Out = typer.Option("--out", "-o", metavar="FOLDER", help="Where NAME.features.npz and .json go; what is there is not done again.")
Per = typer.Option(metavar="WHAT", help="video: one feature each; window: one per window, with its times [default: video].")
Clips = typer.Option(metavar="N", min=1, help="Per video: clips spread over it and averaged [default: 5].")
Crops = typer.Option(metavar="N", help="Squares of a clip, averaged: 1, the centre, 3 or 10 [default: 1].")
Hop = typer.Option(metavar="SECONDS", min=0, help="Per window: from one to the next [default: the length of a window].")
BatchSize = typer.Option(metavar="N", min=1, help="Clips that go through the network at once [default: 8].")


def command(
    videos: options.Videos,
    out: Annotated[Path, Out],
    model: Annotated[str | None, Model] = None,
    per: Annotated[str | None, Per] = None,
    clips: Annotated[int | None, Clips] = None,
    crops: Annotated[int | None, Crops] = None,
    hop: Annotated[float | None, Hop] = None,
    overwrite: options.Overwrite = False,
    shard: options.ShardOf = None,
    strict: options.Strict = False,
    decoder: options.Decoder = None,
    device: options.Device = None,
    batch_size: Annotated[int | None, BatchSize] = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write what a pretrained encoder makes of videos, as arrays (.npz) for other programs.

    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.core.data.inputs import gather
    from tasks.core.files import make_folder
    from tasks.core.towers.extract import run
    from vidcli.resolve import Given, resolve

    flags = options.given_flags(FLAGS, locals())
    settings = resolve(Given(None, config or (), flags, sets or ()), "extract", "features").config
    make_folder(out)
    found = run(settings, own_share(gather(videos, sys.stdin), shard), out, overwrite, console())
    return report(found, strict, _lines)


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: one per video."""
    return [{"video": record["video"], "features": f"{record['n']} x {record['dim']}", "files": short(record["files"])}]
