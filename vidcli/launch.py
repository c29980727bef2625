"""From one process to many: Accelerate's launcher on one machine, SLURM's environment on several.

The launcher's agent turns every failure of a worker into exit code 1, so each worker writes its own code into a folder named by
`VID_EXIT_DIR`, and the process that launched them returns that.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import UsageError
from vidcli.console import console

EXIT_DIR = "VID_EXIT_DIR"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SHUTDOWN_S = 300
"""Seconds workers get to write a checkpoint after a signal, before the agent kills them (its default is 30)."""


def in_world() -> bool:
    """Whether this process is already one of several, started by a launcher or by srun."""
    return any(variable in os.environ for variable in ("WORLD_SIZE", "LOCAL_RANK", "RANK"))


def worker_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments without --processes and --gpus."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("--processes", "--gpus"):
            skip = True
        elif not argument.startswith(("--processes=", "--gpus=")):
            kept.append(argument)
    return kept


def launch_line(arguments: Sequence[str], processes: int) -> list[str]:
    """The command that starts `processes` workers of `vid <arguments>` on this machine."""
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
    precision = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return [sys.executable, *launcher, *precision, "-m", "vidcli", *arguments]


def relaunch(arguments: Sequence[str], processes: int | None, gpus: int | None) -> int:
    """Run `vid <arguments>` in several processes; returns the exit code of the workers.

    SIGTERM, SIGINT and SIGUSR1 are passed on once; the workers write a checkpoint and end, and so does this process.
    """
    if processes and gpus:
        raise UsageError("--processes is for the CPU and --gpus for GPUs: give one of them")
    line = launch_line(worker_arguments(arguments), processes or gpus or 1)
    environment = {
        **os.environ,
        "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_S)),
    }
    if processes:
        environment["ACCELERATE_USE_CPU"] = "true"
    else:
        _check_gpus(gpus or 1)
    talk = console()
    shown = [f"{name}=true" for name in ("ACCELERATE_USE_CPU",) if processes]
    talk.info("launching: " + " ".join(shown + [shlex.quote(part) for part in ["python", *line[1:]]]))
    with tempfile.TemporaryDirectory(prefix="vid-exit-") as folder:
        environment[EXIT_DIR] = folder
        child = subprocess.Popen(line, env=environment, start_new_session=True)
        previous = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in SIGNALS}
        try:
            code = child.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return exit_code(Path(folder), code)


def report(code: int) -> None:
    """Leave this worker's exit code where the launching process finds it."""
    if folder := os.environ.get(EXIT_DIR):
        Path(folder, os.environ.get("RANK", "0")).write_text(str(code))


def exit_code(folder: Path, launcher: int) -> int:
    """What the workers said: the first one's code unless it is 0, else the first other that is not 0, else the launcher's own."""
    codes = [int(path.read_text()) for path in sorted(folder.iterdir(), key=lambda path: int(path.name))]
    if failed := [code for code in codes if code]:
        return failed[0]
    return 0 if codes and launcher == 0 else abs(launcher) and 1


@contextmanager
def world_of(processes: int | None) -> Iterator[None]:
    """Lets a dry run count as if it were one of `processes`."""
    if not processes or in_world():
        yield
        return
    os.environ["WORLD_SIZE"] = str(processes)
    try:
        yield
    finally:
        del os.environ["WORLD_SIZE"]


def join_slurm() -> None:
    """Under `srun` with several tasks: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT from SLURM's variables.

    Accelerate reads only the former. SLURM_STEP_NUM_TASKS is set by srun alone: a batch script, which sees SLURM_NTASKS too, is one process.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks < 2 or in_world():
        return
    job, step = int(os.environ.get("SLURM_JOB_ID", "0")), int(os.environ.get("SLURM_STEP_ID", "0"))
    os.environ.update(RANK=os.environ["SLURM_PROCID"], LOCAL_RANK=os.environ["SLURM_LOCALID"], WORLD_SIZE=str(tasks))
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(tasks // int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))))
    os.environ.setdefault("MASTER_ADDR", _first_node())
    os.environ.setdefault("MASTER_PORT", str(20000 + (job * 16 + step) % 20000))


def _first_node() -> str:
    if os.environ.get("SLURM_STEP_NUM_NODES", "1") == "1":
        return "127.0.0.1"
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    try:
        done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"cannot find the first node of '{nodes}': {error}", "set MASTER_ADDR before srun") from None
    return done.stdout.split()[0]


def _check_gpus(wanted: int) -> None:
    import torch

    found = torch.cuda.device_count()
    if found < wanted:
        raise UsageError(f"--gpus {wanted}: this machine shows {found} GPU{'' if found == 1 else 's'}", "vid doctor lists them; --processes N uses the CPU")
