"""`vid index`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import own_share, report

EXAMPLES = options.examples(
    "vid index videos/ --model hf://openai/clip-vit-base-patch32 -o films.index",
    "vid index videos/ --model models/lite-minilm -o films.index --hop 1",
    "vid index more-videos/ -o films.index",
    "vid index data.csv --model runs/mine -o films.index --shard 2/8",
    "vid index lectures/ -o lectures.index",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "hop": ("--hop", "hop_s"),
    "dtype": ("--dtype", "dtype"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
    "batch_size": ("--batch-size", "batch_size"),
}

Model = typer.Option(
    metavar="MODEL",
    help="Image-text model: CLIP, or one of vid convert --bridge; an encoder is searched by example [default: that of the index].",
)
Out = typer.Option("--out", "-o", metavar="FOLDER", help="The index; what is in it already is not done again.")
Hop = typer.Option(metavar="SECONDS", min=0, help="From one window to the next [default: 2 for pictures, of clips the length of one].")
Dtype = typer.Option(metavar="NAME", help="float16 or float32 [default: float16].")
BatchSize = typer.Option(metavar="N", min=1, help="Windows that go through the network at once [default: 16].")


def command(
    videos: options.Videos,
    out: Annotated[Path, Out],
    model: Annotated[str | None, Model] = None,
    hop: Annotated[float | None, Hop] = None,
    dtype: Annotated[str | None, Dtype] = None,
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
    """Put videos into an index that vid search finds moments in: by a sentence, by an example, by what is said.

    What a frozen image-text model sees is kept window by window, and what is said: subtitles beside a video (NAME.srt, NAME.en.vtt) and the
    columns text and subtitles of a manifest. Run it again, with more videos too, and only what is new or has changed is done; several jobs
    can fill one index (--shard). Without --model, and in a new index, words alone are put in, which takes no time.

    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.core.data.inputs import gather
    from tasks.core.shard import chosen
    from tasks.prompting.search.build import run
    from vidcli.resolve import Given, resolve

    settings = resolve(Given(None, config or (), options.given_flags(FLAGS, locals()), sets or ()), "index", "prompting").config
    inputs = own_share(gather(videos, sys.stdin), shard)
    found = run(settings, inputs, out, overwrite, console(), chosen(shard))
    return report(found, strict, _lines)


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: one per video."""
    return [{name: record[name] for name in ("video", "windows", "sentences")}]
