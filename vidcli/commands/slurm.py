"""`vid slurm`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.batch import SHARDED, TRAINING, Job, script
from vidcli.console import console

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}

EXAMPLES = options.examples(
    "vid slurm --gpus 8 --nodes 4 --time 11:00:00 -- pretrain --preset masked/tats-vitb-k400 --data k400.csv --out runs/k400",
    "vid slurm --array 16 -- detect-boundaries archive/ --out found > job.sh && sbatch job.sh",
    "vid slurm --submit --account lab --setup 'source ~/vid/bin/activate' -- detect-anomalies cameras/ --normal quiet/ --out found",
)

CHECK_HELP = "Try the command first: training with --dry-run, so preset and data must be here; of others the options."
Array = typer.Option(metavar="N", min=1, help=f"N jobs that share the inputs ({', '.join(SHARDED)}).")
Setup = typer.Option(metavar="LINE", help="Shell line before the command (module load, activate). Repeatable.")
Sbatch = typer.Option(metavar="OPTION", help="Further sbatch option, e.g. --constraint=h100. Repeatable.")


def command(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Name of the job [default: vid-<command>].")] = None,
    nodes: Annotated[int, typer.Option(metavar="N", min=1, help="Nodes that train one run.")] = 1,
    gpus: Annotated[int, typer.Option(metavar="N", min=0, help="GPUs per node, one process each; 0: the CPU.")] = 0,
    cpus: Annotated[int, typer.Option(metavar="N", min=1, help="Cores per process.")] = 8,
    time: Annotated[str, typer.Option(metavar="D-HH:MM:SS", help="Time limit of one job; the run goes on in the next.")] = "24:00:00",
    memory: Annotated[str | None, typer.Option("--mem", metavar="SIZE", help="Memory per node, e.g. 128G.")] = None,
    partition: Annotated[str | None, typer.Option(metavar="NAME", help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Account.")] = None,
    array: Annotated[int | None, Array] = None,
    warn: Annotated[int, typer.Option(metavar="SECONDS", min=30, help="Time to write a checkpoint before the limit.")] = 300,
    log: Annotated[str, typer.Option(metavar="PATTERN", help="Log file, as sbatch names it.")] = "slurm-%x-%A.log",
    setup: Annotated[list[str] | None, Setup] = None,
    sbatch: Annotated[list[str] | None, Sbatch] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Hand it to sbatch instead of printing it.")] = False,
    check: Annotated[bool, typer.Option("--check/--no-check", help=CHECK_HELP)] = True,
    debug: options.Debug = False,
) -> int:
    """Print an sbatch file for a vid command, which requeues itself until the command is done.

    The command follows after --. One process per GPU joins the world that SLURM describes; before the time limit the run writes a
    checkpoint, exits with 75 and is requeued. The command is tried out before (--no-check: not). Nothing is submitted without --submit."""

    words = list(context.args)
    job = Job(
        name=name or f"vid-{words[0] if words else ''}",
        nodes=nodes,
        gpus=gpus,
        cpus=cpus,
        time=time,
        memory=memory,
        partition=partition,
        account=account,
        array=array,
        warn_s=warn,
        log=log,
        setup=tuple(setup or ()),
        extra=tuple(sbatch or ()),
    )
    text = script(words, job)
    if check:
        try_out(words)
    if not submit:
        console().text(text.rstrip("\n"))
        return 0
    return _submit(text)


def try_out(words: list[str]) -> None:
    """UsageError, with what it would say, where a command would stop at once; nothing is written.

    Args:
        words: the command without `vid`.
    """
    from tasks.core.errors import UsageError

    tried = "--dry-run" if words[0] in TRAINING else "--help"
    alone = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}  # a login shell may be a job itself
    done = subprocess.run(
        [sys.executable, "-m", "vidcli", *words, tried], capture_output=True, text=True, env=alone, stdin=subprocess.DEVNULL
    )
    if not done.returncode:
        return
    said = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    message, *hints = [line.partition(": ")[2] for line in said] or [done.stderr.strip()]
    hint = "; ".join([*hints, "--no-check writes the file all the same"])
    raise UsageError(f"vid {words[0]} would stop at once: {message}", hint)


def _submit(text: str) -> int:
    """Hands the file to sbatch and says which job it became."""
    from tasks.core.errors import UsageError

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.sh"
        file.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True, cwd=os.getcwd())
        except FileNotFoundError:
            raise UsageError("there is no sbatch on this machine", "run this on the cluster's login node, or without --submit") from None
    if done.returncode:
        raise UsageError(f"sbatch refused the job: {(done.stderr or done.stdout).strip()}", "print it without --submit and look at it")
    console().text(done.stdout.strip())
    return 0
