"""What `vid pretrain` and `vid finetune` share: their options, and the way from options to a run."""

import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import launch, options
from vidcli.console import console

FLAGS = {  # parameter: (flag, key of the configuration)
    "data": ("--data", "data.train"),
    "val": ("--val", "data.val"),
    "init": ("--from", "init"),
    "epochs": ("--epochs", "train.epochs"),
    "max_steps": ("--max-steps", "train.max_steps"),
    "batch_size": ("--batch-size", "train.batch_size"),
    "lr": ("--lr", "optim.base_lr"),
    "precision": ("--precision", "train.precision"),
    "seed": ("--seed", "train.seed"),
    "workers": ("--workers", "data.workers"),
    "decoder": ("--decoder", "data.decoder"),
    "strict": ("--strict", "train.strict"),
    "visualize": ("--visualize", "visualize"),
}

Videos = typer.Option(metavar="PATH", help="Manifest, folder or video to train on; PATH@SPLIT picks a split. Repeatable.")
Val = typer.Option(metavar="PATH", help="The same for validation. Repeatable.")
Out = typer.Option("--out", "-o", metavar="FOLDER", help="Run folder [default: runs/<verb>-<preset>]. The same command again continues it.")
Name = typer.Option(metavar="TEXT", help="Appended to the default run folder's name.")
Init = typer.Option("--from", metavar="MODEL", help="Start from these weights: model folder, run folder or hf://org/repo[@revision].")
Epochs = typer.Option(metavar="N", help="Passes over the training videos.")
MaxSteps = typer.Option(metavar="N", help="Stop after N optimizer steps.")
BatchSize = typer.Option(metavar="N", help="Videos per process and micro-batch.")
Lr = typer.Option(metavar="RATE", help="Base learning rate, for a batch of 256 where the preset scales it.")
Precision = typer.Option(metavar="NAME", help="auto, fp32, bf16 or fp16.")
Seed = typer.Option(metavar="N", help="Of weights, order and augmentation.")
Visualize = typer.Option(metavar="N", help="Clips in the picture at the end of the run; 0: none.")
DryRun = typer.Option("--dry-run", help="Resolve and check everything, print what would run, train nothing.")
Processes = typer.Option(metavar="N", min=1, help="Train in N processes on the CPU.")
Gpus = typer.Option(metavar="N", min=1, help="Train on N GPUs, one process each.")
Plan = typer.Option("--plan", help="Compute what the run would take (memory, days, storage, cores) and where each number comes from.")
Profile = typer.Option(metavar="N", min=1, help="Train N steps after 3 of warm-up, print where their time goes, keep nothing.")
Nodes = typer.Option(metavar="N", min=1, help="With --plan: nodes of --gpus each (a job of several nodes: vid slurm).")
Assume = typer.Option(metavar="KEY=VALUE", help="With --plan: device, mfu, videos, video_mb, videos_per_s, ... Repeatable.")
Measure = typer.Option("--measure", help="With --plan: measure this machine's peak of matrix products instead of assuming one.")


def train(
    verb: str,
    preset: options.PresetName = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    data: Annotated[list[str] | None, Videos] = None,
    val: Annotated[list[str] | None, Val] = None,
    out: Annotated[Path | None, Out] = None,
    name: Annotated[str | None, Name] = None,
    init: Annotated[str | None, Init] = None,
    epochs: Annotated[int | None, Epochs] = None,
    max_steps: Annotated[int | None, MaxSteps] = None,
    batch_size: Annotated[int | None, BatchSize] = None,
    lr: Annotated[float | None, Lr] = None,
    precision: Annotated[str | None, Precision] = None,
    seed: Annotated[int | None, Seed] = None,
    workers: options.Workers = None,
    decoder: options.Decoder = None,
    strict: options.Strict = False,
    visualize: Annotated[int | None, Visualize] = None,
    dry_run: Annotated[bool, DryRun] = False,
    processes: Annotated[int | None, Processes] = None,
    gpus: Annotated[int | None, Gpus] = None,
    plan: Annotated[bool, Plan] = False,
    profile: Annotated[int | None, Profile] = None,
    nodes: Annotated[int | None, Nodes] = None,
    assume: Annotated[list[str] | None, Assume] = None,
    measure: Annotated[bool, Measure] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Resolve, then plan or run; returns the exit code."""
    from tasks.core.errors import UsageError
    from tasks.registry import verb_module
    from vidcli.resolve import Given, resolve

    values = locals()
    flags = options.given_flags(FLAGS, values)
    resolved = resolve(Given(preset, config or (), flags, sets or ()), verb)
    folder = out or Path("runs") / "-".join(filter(None, (verb, resolved.slug, name)))
    reporter = console()
    if processes and gpus:
        raise UsageError("--processes is for the CPU and --gpus for GPUs", "give one of them")
    if len(instead := [flag for flag, given in (("--plan", plan), ("--profile", profile), ("--dry-run", dry_run)) if given]) > 1:
        raise UsageError(f"{' and '.join(instead)} exclude each other: each is done instead of training", "give one of them")
    if plan:
        return _plan(verb, resolved, (processes or gpus or 1) * (nodes or 1), assume or [], measure, gpus)
    if nodes or assume or measure:
        raise UsageError("--nodes, --assume and --measure belong to --plan", "add --plan; a job of several nodes: vid slurm --nodes N")
    if dry_run:
        with launch.world_of(processes or gpus):
            planned = verb_module(resolved.task, verb).plan(resolved.config)
        reporter.result({"task": resolved.task, "verb": verb, "preset": resolved.preset, "out": str(folder), **planned}, "dry run")
        return 0
    if (processes or gpus or 1) > 1 and launch.starts_here():
        return launch.relaunch(sys.argv[1:], processes, gpus)
    if gpus == 1 and not launch.in_world():
        launch.check_gpus(1)
    if processes:
        os.environ["ACCELERATE_USE_CPU"] = "true"

    from tasks.core.signals import stopping

    with stopping(f"stopped by a signal outside of training; {folder} is as it was", "run the same command again to continue"):
        return _profile(verb, resolved, profile) if profile else _run(verb, resolved, folder)


def _profile(verb: str, resolved: Any, steps: int, warmup: int = 3) -> int:
    """Trains in a folder that is thrown away, and prints the shares of a step."""
    from tasks.core.engine.run import Run
    from tasks.core.profile import Profiled, profiling
    from tasks.registry import verb_module

    reporter, module = console(), verb_module(resolved.task, verb)
    length = {"epochs": 10**6, "max_steps": steps + warmup, "eval_every_epochs": None, "save_every_s": 1e9}
    length |= {"save_every_steps": None, "save_every_epochs": None}
    config = resolved.config.model_copy(update={"train": resolved.config.train.model_copy(update=length)})
    config = getattr(module, "past_warmup", lambda same: same)(config)
    module.check(config)
    with tempfile.TemporaryDirectory(prefix="vid-profile-") as folder:
        run = Run.open(Path(folder), config, resolved.task, verb, ["vid", *sys.argv[1:]], reporter, resolved.preset)
        try:
            with profiling(steps, warmup):
                module.run(config, run)
        except Profiled as done:
            report = done.report
    if not run.main:
        return 0
    if reporter.json:
        reporter.emit({"task": resolved.task, "verb": verb, "preset": resolved.preset, **report})
        return 0
    reporter.table([{"part of a step": p["part"], "ms": f"{p['ms']:.1f}", "share": f"{100 * p['share']:.1f} %"} for p in report["parts"]])
    read = report["read_s_per_clip"]
    note = f"; reading and decoding: {1e3 * read:.1f} ms of one core a clip" if read else ""
    reporter.info(f"{1e3 * report['seconds_per_step']:.1f} ms a step, {report['clips_per_s']:g} clips/s a process{note}")
    return 0


def _plan(verb: str, resolved: Any, world: int, assume: list[str], measure: bool, gpus: int | None) -> int:
    """Prints what the run would take in `world` processes, on GPUs where `gpus` were asked for or are here."""
    import torch

    from tasks.core.data.manifest import label_names
    from tasks.core.engine.plan import assumptions, device_here, forecast, mixed
    from tasks.core.engine.setup import training_rows
    from tasks.core.engine.workload import count_workload
    from tasks.registry import example, verb_module

    if not any(text.startswith("device=") for text in assume) and (here := device_here(gpus)) != "a100":
        assume = [*assume, f"device={here}"]
    reporter, config, assumed, make = console(), resolved.config, assumptions(assume), example(resolved.task, verb)
    rows = None
    if config.data.train:
        verb_module(resolved.task, verb).check(config)
        rows = training_rows(config.data)
    with torch.device("meta"):
        step = make(config, assumed.classes if rows is None else len(label_names(rows)))
    work = count_workload(step, config.train, mixed(config.train.precision, assumed.device))
    lines = [line.as_dict() for line in forecast(work, config, world, rows, assumed, measure, step.picker)]
    if reporter.json:
        reporter.emit({"task": resolved.task, "verb": verb, "preset": resolved.preset, **{line.pop("key"): line for line in lines}})
    else:
        shown = [{**line, **_readable(line["value"], line["unit"])} for line in lines]
        reporter.table([{"plan": line.pop("key"), **line} for line in shown])
    return 0


SMALLER = {
    "days": ("hours", 24),
    "hours": ("min", 60),
    "min": ("s", 60),
    "s": ("ms", 1000),
    "GiB": ("MiB", 1024),
    "TB": ("GB", 1000),
    "GB": ("MB", 1000),
}
"""Unit: the next smaller one, and how many of it it has."""


def _readable(value: float | int | str | None, unit: str) -> dict[str, str]:
    """`value` and `unit` for people: not less than 1 where there is a smaller unit."""
    if isinstance(value, str) or not value:
        return {"value": value if isinstance(value, str) else _short(value), "unit": unit}
    while abs(value) < 1 and unit in SMALLER:
        unit, times = SMALLER[unit]
        value *= times
    return {"value": _short(value), "unit": unit}


def _short(value: float | None) -> str:
    """A number for people, four digits of it."""
    return "?" if value is None else f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _run(verb: str, resolved: Any, folder: Path) -> int:
    """Opens or takes up the run folder and trains; returns the exit code."""
    from tasks.core.engine.run import Run
    from tasks.core.engine.setup import fit_world
    from tasks.core.errors import InputError, UsageError
    from tasks.core.report.training import REPORT
    from tasks.registry import verb_module

    reporter, module = console(), verb_module(resolved.task, verb)
    new = not folder.exists()
    if not (folder / "result.json").exists():  # a finished run needs its data no more
        module.check(resolved.config)
    run = Run.open(folder, resolved.config, resolved.task, verb, ["vid", *launch.typed()], reporter, resolved.preset)
    if run.finished:
        reporter.info(f"{folder} holds this run, finished; to train again choose another --out or --name")
        if run.main and not (folder / REPORT).exists():
            _report(folder)
        reporter.result(run.result, "result")
        return 0
    reporter.attach_log(folder / "log.txt")
    try:
        settings = fit_world(folder, resolved.config, reporter)
        reporter.info(f"run folder: {folder}")
        reporter.detail(
            "\n".join(f"{row['key']} = {row['value']}  ({row['origin']})" for row in resolved.rows() if row["origin"] != "default")
        )
        result = module.run(settings, run)
        if run.main:
            _report(folder)
        reporter.result(result, "result")
    except (UsageError, InputError):
        if new and run.main:
            _clear(folder)
        raise
    return 0


def _report(folder: Path) -> None:
    """Writes the page of a run that has come to its end, and says where it is."""
    from tasks.core.report.training import write_report

    console().info(f"report: {write_report(folder)}")


def _clear(folder: Path) -> None:
    """Removes the folder of a run that could not begin, a model to start from that does not fit say; what tells of videos stays."""
    if {path.name for path in folder.rglob("*") if not path.is_dir()} <= {"config.yaml", "run.json", "log.txt", ".lock"}:
        console().detach_log()
        shutil.rmtree(folder, ignore_errors=True)


def training_command(verb: str, without: tuple[str, ...] = ()) -> Callable[..., int]:
    """The function behind `vid <verb>`: `train` for that verb, less the options it has no use for."""
    signature = inspect.signature(train)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "verb" and name not in without]

    def command(**given: Any) -> int:
        return train(verb, **given)

    command.__name__ = verb
    command.__signature__ = signature.replace(parameters=kept)  # Typer reads the options from here
    return command
