"""From one process to many: Accelerate's launcher on one machine, SLURM's environment on several.

The launcher's agent would turn every failure of a worker into exit code 1 and a page of traceback, and pass signals on with a
timeout. So workers and the process that launched them reporter through a folder named by `VID_EXIT_DIR`: each worker leaves its process
id there when it starts and its exit code when it ends, and ends with 0 for the agent. Signals go to the workers directly; the agent
ignores them.
"""

import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from tasks.core.errors import UsageError
from tasks.core.interpreter import same_modules
from tasks.core.signals import HANDLED
from vidcli import accelerate_file
from vidcli.console import console

EXIT_DIR, TYPED = "VID_EXIT_DIR", "VID_TYPED"
WORLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
GRACE_S = 20.0
"""Seconds the other workers get to end by themselves once one has failed."""


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


def typed() -> list[str]:
    """The arguments of `vid` as they were typed: a worker got others from the process that launched it."""
    return shlex.split(os.environ[TYPED]) if TYPED in os.environ else sys.argv[1:]


def launch_line(arguments: Sequence[str], processes: int, cpu: bool) -> list[str]:
    """The command that starts `processes` workers of `vid <arguments>` on this machine, as one of several where SLURM or a file of
    `accelerate config` says so.

    From the file come machines, FSDP, the choice of GPUs and mixed precision (for `train.precision: auto`). Raises UsageError.
    """
    path = accelerate_file.find()
    file = accelerate_file.read(path, cpu) if path else None
    if file and file.gpus is not None and file.gpus < processes:
        raise UsageError(f"--gpus {processes}: {file.path} names {file.gpus} (gpu_ids)", "run: accelerate config")
    line = [sys.executable, "-m", "accelerate.commands.launch", *(["--config_file", str(file.path)] if file else [])]
    line += [] if file and file.fsdp else ["--multi_gpu"]
    nodes = slurm_nodes()
    machines = nodes[0] if nodes else file.machines if file else 1
    line += ["--num_processes", str(processes * machines)]
    if nodes:
        line += ["--num_machines", str(machines), "--machine_rank", str(nodes[1])]
        line += ["--main_process_ip", os.environ["MASTER_ADDR"], "--main_process_port", os.environ["MASTER_PORT"]]
    elif machines == 1:
        line += ["--num_machines", "1", "--main_process_port", "0"]
    line += ["--gpu_ids", "all"] if file and cpu else []
    line += ["--mixed_precision", "no"] if cpu or not file else []
    return [*line, "--dynamo_backend", "no", "-m", "vidcli", *arguments]


def shown(line: Sequence[str], cpu: bool) -> str:
    """A launch line as a person can paste it."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return ("ACCELERATE_USE_CPU=true " if cpu else "") + shlex.join([python, *line[1:]])


def starts_here() -> bool:
    """Whether `--processes` and `--gpus` start workers: outside of a world, and in the one task that srun started on each node."""
    return not in_world() or slurm_nodes() is not None


def slurm_nodes() -> tuple[int, int] | None:
    """(nodes, number of this one) where srun started one task on each of several nodes and no launcher has taken over yet."""
    nodes, tasks = (_env_int(f"SLURM_STEP_NUM_{what}", "1") for what in ("NODES", "TASKS"))
    if nodes < 2 or nodes != tasks or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    return nodes, _env_int("SLURM_NODEID")


def _env_int(variable: str, otherwise: str = "") -> int:
    """A number that srun has set. Raises UsageError."""
    value = os.environ.get(variable, otherwise)
    if not value.isdecimal():
        said = f"{variable} is {value!r}" if variable in os.environ else f"{variable} is missing"
        raise UsageError(f"{said}: this is not a step as srun starts it", "unset the variables SLURM_*, or start it with srun")
    return int(value)


def relaunch(arguments: Sequence[str], processes: int | None, gpus: int | None) -> int:
    """Run `vid <arguments>` in several processes; returns the exit code of the workers.

    SIGTERM, SIGINT and SIGUSR1 are passed on; the workers write a checkpoint and end, and so does this process.
    """
    line = launch_line(worker_arguments(arguments), processes or gpus or 1, bool(processes))
    environment = {name: value for name, value in os.environ.items() if name not in WORLD}
    environment |= {"PET_SIGNALS_TO_HANDLE": "SIGHUP", TYPED: shlex.join(arguments), **same_modules()}
    if processes:
        environment["ACCELERATE_USE_CPU"] = "true"
    else:
        check_gpus(gpus or 1)
    console().info(f"launching: {shown(line, bool(processes))}")
    with tempfile.TemporaryDirectory(prefix="vid-exit-") as name:
        place = line.index("-m", 2)  # the launcher's logs go away with the folder
        agent = [line[0], "-m", "vidcli.agent", *line[3:place], "--log_dir", f"{name}/log", *line[place:]]
        return _supervise(agent, {**environment, EXIT_DIR: name}, Path(name))


def _supervise(line: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Start the launcher, pass signals on to the workers, end the others when one failed; the exit code of all."""
    received: list[int] = []
    told: set[str] = set()
    child: subprocess.Popen | None = None

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        told.clear()
        if child is not None:
            pass_on()

    def pass_on() -> None:
        if not signal_workers(folder, received[-1], told):
            child.send_signal(signal.SIGHUP)  # none has started yet: end the launcher itself

    previous = {number: signal.signal(number, forward) for number in HANDLED}
    try:
        child = subprocess.Popen(line, env=environment, start_new_session=True, preexec_fn=_own_signals)
        failed_at = None
        while child.poll() is None:
            try:
                child.wait(1.0)
            except subprocess.TimeoutExpired:
                if received:
                    pass_on()  # to workers that have started since
                failed_at = failed_at or (time.monotonic() if any(exit_codes(folder)) else None)
                if failed_at and time.monotonic() - failed_at > GRACE_S:
                    child.send_signal(signal.SIGHUP)
                    failed_at = math.inf
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    codes = exit_codes(folder)
    if failed := [code for code in codes if code]:
        return next((code for code in failed if code != 1), 1)  # 1: also of those that only lost the others
    if child.returncode in (0, 2):
        return child.returncode
    return (130 if received[0] == signal.SIGINT else 75) if received else 1


def _own_signals() -> None:
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it ends the launcher, under nohup too


def signal_workers(folder: Path, number: int, told: set[str]) -> int:
    """Send a signal to every worker that has not ended and is not among `told`, and add it there; returns how many have started."""
    started = list(folder.glob("*.pid"))
    for path in started:
        if path.name not in told and not path.with_suffix(".code").exists():
            told.add(path.name)
            with suppress(ProcessLookupError):
                os.kill(int(path.read_text()), number)
    return len(started)


def exit_codes(folder: Path) -> list[int]:
    """Exit codes that workers have left, in the order they ended: the first failure is the cause of the others."""
    return [int(path.read_text()) for path in sorted(folder.glob("*.code"), key=lambda path: path.stat().st_mtime_ns)]


def join() -> None:
    """In a worker, once it acts upon signals (the launcher has made it ignore them): say that it has started."""
    join_slurm()
    if folder := os.environ.get(EXIT_DIR):
        _leave(Path(folder), "pid", os.getpid())


def leave(code: int) -> int:
    """At the end of a process: its exit code; a worker leaves the code for the process that launched it and ends with 0 for the agent."""
    folder = os.environ.get(EXIT_DIR)
    if not folder:
        return code
    _leave(Path(folder), "code", code)
    return 0


def _leave(folder: Path, kind: str, number: int) -> None:
    rank = os.environ.get("RANK", "0")
    temporary = folder / f"{rank}.{kind}.tmp"
    temporary.write_text(str(number))
    temporary.rename(folder / f"{rank}.{kind}")


@contextmanager
def world_of(processes: int | None) -> Iterator[None]:
    """Lets a dry run count as if it were one of `processes`."""
    if not processes or not starts_here():
        yield
        return
    before = os.environ.get("WORLD_SIZE")
    os.environ["WORLD_SIZE"] = str(processes * (slurm_nodes() or (1, 0))[0])
    try:
        yield
    finally:
        os.environ.pop("WORLD_SIZE")
        if before is not None:
            os.environ["WORLD_SIZE"] = before


def join_slurm() -> None:
    """Under `srun` with several tasks: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT from SLURM's variables.

    Accelerate reads only the former. SLURM_STEP_NUM_TASKS is set by srun alone; a batch script sees SLURM_NTASKS too and is one process.

    Raises:
        UsageError: variables that srun did not set, or the first node is not known; then all but MASTER_ADDR are set.
    """
    if in_world() or (tasks := _env_int("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    job, step, nodes = _env_int("SLURM_JOB_ID", "0"), _env_int("SLURM_STEP_ID", "0"), _env_int("SLURM_STEP_NUM_NODES", "1")
    rank, local = _env_int("SLURM_PROCID"), _env_int("SLURM_LOCALID")
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local), WORLD_SIZE=str(tasks))
    os.environ.setdefault("LOCAL_WORLD_SIZE", str(tasks // nodes))
    os.environ.setdefault("MASTER_PORT", str(20000 + (job * 16 + step) % 20000))
    os.environ["MASTER_ADDR"] = os.environ.get("MASTER_ADDR") or first_node(nodes)


def first_node(nodes: int) -> str:
    """The name of the first of a job step's nodes, loopback where there is one only. Raises UsageError."""
    if nodes == 1:
        return "127.0.0.1"
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    try:
        done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"cannot find the first node of '{nodes}': {error}", "set MASTER_ADDR before srun") from None
    return done.stdout.split()[0]


def check_gpus(wanted: int) -> None:
    """UsageError where this machine has fewer."""
    import torch

    found = torch.cuda.device_count()
    if found < wanted:
        raise UsageError(f"--gpus {wanted}: GPUs found here: {found}", "vid doctor lists them; --processes N uses the CPU")
