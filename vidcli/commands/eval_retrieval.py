"""`vid eval retrieval`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid eval retrieval --model runs/finetune-prompting-vitb16-msrvtt --data msrvtt-1k-a.csv",
    "vid eval retrieval --model hf://openai/clip-vit-base-patch16 --data captions.csv --json",
    "vid eval retrieval --model runs/mine --protocol zero-shot --data captions.csv@test --out found --write csv",
    "vid eval retrieval --model runs/mine --data captions.csv --set data.streams.visual.folder=FEATURES",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "data": ("--data", "data.val"),
    "protocol": ("--protocol", "protocol"),
    "clips": ("--clips", "test.samples"),
    "batch_size": ("--batch-size", "test.batch_size"),
    "workers": ("--workers", "data.workers"),
    "decoder": ("--decoder", "features.decoder"),
    "strict": ("--strict", "strict"),
}
DIRECTIONS = {"text_to_video": "text to video", "video_to_text": "video to text"}

Model = typer.Option(metavar="MODEL", help="Prompted model (model folder, run folder or hf://org/repo[@revision]), or a CLIP model.")
Data = typer.Option(metavar="PATH", help="Manifest with a column text[@SPLIT]; several rows of a video are several sentences. Repeatable.")
Protocol = typer.Option(metavar="NAME", help="prompted, or zero-shot: sentences as they are, mean of frames [default: as the model is].")


def command(
    model: Annotated[str, Model],
    data: Annotated[list[str], Data],
    protocol: Annotated[str | None, Protocol] = None,
    clips: Annotated[int | None, typer.Option(metavar="N", help="Random clips of each video that are averaged [default: 5].")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Videos per batch.")] = None,
    workers: options.Workers = None,
    decoder: options.Decoder = None,
    strict: options.Strict = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for retrieval.json and the files asked for.")
    ] = None,
    write: Annotated[
        str | None, typer.Option(metavar="LIST", help="csv (rank of the video of each sentence), besides the JSON record.")
    ] = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Test how well sentences find their videos, and videos their sentences.

    Recall at 1, 5 and 10 in percent, and the median rank, in both directions. Equally similar items have no order: each number is the mean
    over all of them, so that a model that finds everything alike is at chance.
    Exit code 4: some videos could not be read, the numbers are those of the rest."""
    from tasks.registry import verb_module
    from vidcli.inference import output_to
    from vidcli.resolve import Given, resolve

    resolved = resolve(Given(None, config or (), options.given_flags(FLAGS, locals()), sets or ()), "retrieve", "prompting")
    module = verb_module("prompting", "retrieve")
    output = output_to(out, write, module.SUFFIXES, overwrite=True)
    result = module.run(resolved.config, console(), output)
    report(result)
    return 4 if result["n_skipped"] else 0


def report(result: dict[str, Any]) -> None:
    """The result; for people the two directions are a table."""
    reporter = console()
    if reporter.json:
        reporter.emit(result)
        return
    names = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "median rank", "mean_rank": "mean rank"}
    rows = [
        {"": name, **{shown: f"{result[key][number]:.1f}" for number, shown in names.items()}, "queries": result[count]}
        for (key, name), count in zip(DIRECTIONS.items(), ("n_texts", "n_videos"), strict=True)
    ]
    reporter.table(rows)
    reporter.text("")
    reporter.result({key: value for key, value in result.items() if key not in DIRECTIONS}, "result")
