"""`vid eval classify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid eval classify --model runs/finetune-classify-tiny --data val.csv",
    "vid eval classify --model runs/finetune-classify-tiny --data val.csv --clips 2 --crops 3 --json",
    "vid eval classify --model runs/turbo --data val.csv --keep 0.25 --set keep_seed=1",
    "vid eval classify --model runs/pretrain-masked-tats-tiny --protocol knn --gallery train.csv --data val.csv",
    "vid eval classify --model runs/rgb --model runs/flow --data val.csv --windows half-overlap --crops 10",
    "vid eval classify --model runs/mine --protocol retrieval --center own --gallery train.csv --data val.csv",
    "vid eval classify --preset classify/coclr-retrieval --model runs/mine --gallery train.csv --data val.csv",
    "vid eval classify --model runs/prompted --data val.csv --set classes=data",
    "vid eval classify --model hf://openai/clip-vit-base-patch16 --protocol zero-shot --data val.csv",
    "vid eval classify --model a --compare b --protocol retrieval --gallery train.csv --data val.csv --out found --write csv,html",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "compare": ("--compare", "compare"),
    "data": ("--data", "data.val"),
    "gallery": ("--gallery", "data.train"),
    "protocol": ("--protocol", "protocol"),
    "clips": ("--clips", "views.clips"),
    "windows": ("--windows", "views.windows"),
    "crops": ("--crops", "views.crops"),
    "center": ("--center", "center"),
    "k": ("--k", "k"),
    "keep": ("--keep", "keep"),
    "batch_size": ("--batch-size", "batch_size"),
    "workers": ("--workers", "data.workers"),
    "decoder": ("--decoder", "data.decoder"),
    "strict": ("--strict", "strict"),
    "scores": ("--scores", "save_scores"),
}
PROMPTED = {  # of models with prompts, and of CLIP models without training
    **{name: FLAGS[name] for name in ("model", "data", "protocol", "workers", "strict", "scores")},
    "batch_size": ("--batch-size", "test.batch_size"),
    "decoder": ("--decoder", "features.decoder"),
    "clips": ("--clips", "test.samples"),
}
ZERO_SHOT = "zero-shot"


OUT_HELP = "Write the result to this JSON file too. With --write: the folder for PROTOCOL.json and the files asked for."
WRITE_HELP = "csv (probabilities, or nearest neighbours), html (page of nearest neighbours), besides json."
COMPARE_HELP = "knn, retrieval: another model, tested by itself on the same videos. Repeatable."
MODEL_HELP = "Model folder, run folder or hf://org/repo[@revision]. Repeated: probabilities or similarities are averaged."


def command(
    model: Annotated[list[str], typer.Option(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[list[str], typer.Option(metavar="PATH", help="Labelled videos: manifest or folder[@SPLIT]. Repeatable.")],
    preset: options.PresetName = None,
    compare: Annotated[list[str] | None, typer.Option(metavar="MODEL", help=COMPARE_HELP)] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="finetuned, knn, retrieval; prompted or zero-shot (CLIP and its like).")
    ] = None,
    gallery: Annotated[list[str] | None, typer.Option(metavar="PATH", help="Training videos for knn and retrieval. Repeatable.")] = None,
    clips: Annotated[int | None, typer.Option(metavar="N", help="Windows spread over each video [default: 5].")] = None,
    windows: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="spread, or half-overlap: over the whole video, not --clips [default: spread]."),
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option(metavar="N", help="Squares: 1, 3 along the long side, or 10, corners and centre, mirrored too [default: 3]."),
    ] = None,
    center: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Mean taken from knn and retrieval features: gallery, own (per set), none [default: gallery]."),
    ] = None,
    k: Annotated[int | None, typer.Option("--k", metavar="N", help="Neighbours of knn.")] = None,
    keep: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of a transformer's tokens that is seen of every view, drawn at random [default: 1]."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Videos per batch.")] = None,
    workers: options.Workers = None,
    decoder: options.Decoder = None,
    strict: options.Strict = False,
    scores: Annotated[Path | None, typer.Option(metavar="FILE", help="Write per-video class probabilities to this CSV.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help=OUT_HELP)] = None,
    write: Annotated[str | None, typer.Option(metavar="LIST", help=WRITE_HELP)] = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Test a classifier, or an encoder's frozen features.

    A classifier is tested with several views per video, frozen features of any encoder by nearest neighbours or retrieval, a model with
    learned prompts by the names of classes, and with --protocol zero-shot any image-text model by hand-written prompts.
    Reports top-1, top-5 and mean class accuracy (or R@k) in percent, how many videos were used and skipped, views and protocol.
    Exit code 4: some videos could not be read, the numbers are those of the rest."""
    from tasks.core.errors import UsageError
    from tasks.core.files import write_json
    from tasks.registry import verb_module
    from vidcli.inference import output_to
    from vidcli.resolve import Given, resolve

    values = {**locals(), "scores": str(scores) if scores else None}
    task = task_of(model, protocol)
    flags = flags_of(task, values)
    resolved = resolve(Given(preset, config or (), flags, sets or ()), "eval", task)
    if write is not None and out is not None and (out.suffix == ".json" or out.is_file()):
        raise UsageError(f"--out {out}: with --write it is a folder", "for example --out found")
    output = output_to(None if write is None else out, write, suffixes_of(task), overwrite=True)
    reporter = console()
    result = verb_module(task, "eval").run(resolved.config, reporter, output)
    if out and write is None:
        write_json(out, result)
    report(reporter, result)
    return 4 if result.get("n_skipped") else 0


def task_of(models: list[str], protocol: str | None) -> str:
    """Which task tests: `prompting` where the model has learned prompts, or is to be tested by hand-written ones."""
    from tasks.prompting.opened import is_prompted

    if protocol in (ZERO_SHOT, "prompted"):
        return "prompting"
    return "prompting" if protocol is None and is_prompted(models[0]) else "classify"


def flags_of(task: str, values: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The flags that were given; UsageError for one that has no meaning for models with prompts."""
    from tasks.core.errors import UsageError

    flags = options.given_flags(FLAGS, values)
    if task == "classify":
        return flags
    known = {flag for flag, _ in PROMPTED.values()}
    if strange := [flag for flag, _, _ in flags if flag not in known]:
        raise UsageError(f"{strange[0]} has no meaning for a model with prompts", f"its flags: {', '.join(sorted(known))}; and --set")
    if len(values["model"]) > 1:
        raise UsageError("models with prompts are tested one by one", "give one --model")
    return options.given_flags(PROMPTED, values)


def suffixes_of(task: str) -> dict[str, str]:
    """Kinds of files that a task's test writes."""
    from importlib import import_module

    return import_module("tasks.classify.writers" if task == "classify" else "tasks.prompting.evaluate").SUFFIXES


def report(reporter: Any, result: dict[str, Any]) -> None:
    """The result; for people, methods that stand beside each other are a table."""
    others = result.get("compared")
    if others and not reporter.json:
        tested = result["model"] if isinstance(result["model"], str) else " + ".join(result["model"])
        keys = list(next(iter(others.values())))
        rows = {tested: {key: result[key] for key in keys}, **others}
        reporter.table([{"method": name, **numbers} for name, numbers in rows.items()])
        result = {key: value for key, value in result.items() if key not in (*keys, "compared")}
    reporter.result(result, "result")
