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
    "vid extract-features lecture.mp4 --model hf://org/videomae --out features --per window --hop 0.5",
    "vid extract-features data.csv --model runs/mine --out features --per window --hop 0.5 --format npy --dtype float16",
    "vid extract-features videos/ --model hf://openai/clip-vit-large-patch14 --out features --per window --hop 0.5",
    "vid extract-features videos/ --audio logmel --out sound",
    "vid extract-features videos/ --audio logmel --span 0.96 --hop 0.48 --silence --out sound",
    "find . -name '*.mkv' | vid extract-features - --model runs/mine --out features --json",
    "python -c \"import numpy; print(numpy.load('features/reporter.features.npz')['features'].shape)\"",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "per": ("--per", "per"),
    "clips": ("--clips", "clips"),
    "crops": ("--crops", "crops"),
    "hop": ("--hop", "hop_s"),
    "format": ("--format", "format"),
    "dtype": ("--dtype", "dtype"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
    "batch_size": ("--batch-size", "batch_size"),
}

SOUND_FLAGS = {
    "audio": ("--audio", "audio"),
    "hop": ("--hop", "hop_s"),
    "span": ("--span", "span_s"),
    "silence": ("--silence", "silence"),
    "format": ("--format", "format"),
    "dtype": ("--dtype", "dtype"),
}

Model = typer.Option(metavar="MODEL", help="A model with an encoder of clips, or CLIP: folder, run folder or hf://org/repo[@revision].")
Out = typer.Option("--out", "-o", metavar="FOLDER", help="Where NAME.features.npz and .json go; what is there is not done again.")
Per = typer.Option(metavar="WHAT", help="video: one feature each; window: one per window, with its times [default: video].")
Clips = typer.Option(metavar="N", min=1, help="Per video: clips spread over it and averaged [default: 5].")
Crops = typer.Option(metavar="N", help="Squares of a clip, averaged: 1, the centre, 3 or 10 [default: 1].")
Format = typer.Option("--format", metavar="NAME", help="npz, npy (can be read in parts) or h5 [default: npz].")
Dtype = typer.Option(metavar="NAME", help="float32 or float16 [default: float32].")
Hop = typer.Option(metavar="SECONDS", min=0, help="From one window to the next [default: the length of a window; of sound 0.01].")
Audio = typer.Option(metavar="NAME", help="Of the sound, not the pictures, and without a model: logmel.")
Span = typer.Option(metavar="SECONDS", min=0, help="Of sound: so much of the spectrogram is one feature [default: the hop].")
Silence = typer.Option("--silence", help="A file without sound is silent, not an error.")
BatchSize = typer.Option(metavar="N", min=1, help="Clips that go through the network at once [default: 8].")


def command(
    videos: options.Videos,
    out: Annotated[Path, Out],
    model: Annotated[str | None, Model] = None,
    per: Annotated[str | None, Per] = None,
    clips: Annotated[int | None, Clips] = None,
    crops: Annotated[int | None, Crops] = None,
    hop: Annotated[float | None, Hop] = None,
    audio: Annotated[str | None, Audio] = None,
    span: Annotated[float | None, Span] = None,
    silence: Annotated[bool, Silence] = False,
    format: Annotated[str | None, Format] = None,
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
    """Write what a pretrained encoder makes of videos: a folder of features to train on, or arrays for other programs.

    The folder has one file per video and features.json: encoder, hash of its weights and, with --per window, the grid. Windows
    begin exactly a hop apart, from the first frame on, as long as they begin before the video ends; beyond its end the last frame
    is repeated. CLIP (a folder of transformers or OpenCLIP, OpenAI's .pt) sees single frames: without --hop, each of them.

    With --audio the features are of the sound: 64 mel channels every 0.01 s or, with --hop or --span, patches of such rows, on a grid
    that begins with the first frame. Single files of sound are read too; --set logmel.n_mels=128 and the like change the spectrogram.

    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.core.data.inputs import gather
    from tasks.core.errors import UsageError
    from tasks.core.files import make_folder
    from vidcli.resolve import Given, resolve

    flags = _flags(locals())
    if audio is None and not (model or config or sets):
        raise UsageError(
            "which encoder? --model is missing", "--model RUN, a model folder or hf://org/repo; of the sound, without one: --audio logmel"
        )
    if audio is None:
        from tasks.core.towers.extract import run
    else:
        from tasks.core.towers.sound import run
    settings = resolve(Given(None, config or (), flags, sets or ()), "extract" if audio is None else "sound", "features").config
    make_folder(out)
    inputs = gather(videos, sys.stdin)
    found = run(settings, own_share(inputs, shard), out, overwrite, console(), inputs)
    return report(found, strict, _lines)


def _flags(values: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The flags that were given, as `options.given_flags`.

    Raises:
        UsageError: one is for pictures and the features are of the sound, or the other way round.
    """
    from tasks.core.errors import UsageError

    mine, theirs = (FLAGS, SOUND_FLAGS) if values["audio"] is None else (SOUND_FLAGS, FLAGS)
    if wrong := options.given_flags({name: flag for name, flag in theirs.items() if name not in mine}, values):
        flag = wrong[0][0]
        if values["audio"] is None:
            raise UsageError(f"{flag} is for features of the sound", f"add --audio logmel, or leave {flag} out")
        raise UsageError(f"{flag} is for features of pictures, --audio for those of the sound", "leave one of the two out")
    return options.given_flags(mine, values)


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: one per video."""
    return [{"video": record["video"], "features": f"{record['n']} x {record['dim']}", "files": short(record["files"])}]
