"""Real worlds of several processes on loopback, with gloo on the CPU."""

import faulthandler
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def variables(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torchrun tells process `rank` of a world on one machine."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
    return {name: str(value) for name, value in {**place, **meeting}.items()}


CPU_S = 300
"""More than any process of a world works; the kernel ends one that spins, even where nobody is left who would."""


def run_world(processes: int, *arguments: Any) -> list[tuple[int, str]]:
    """Runs `python <arguments>` in every process of a world; (exit code, stderr) by rank."""
    port = free_port()
    workers = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, **variables(rank, processes, port)},
            stderr=subprocess.PIPE,
        )
        for rank in range(processes)
    ]
    for worker in workers if hasattr(resource, "prlimit") else ():  # Linux
        resource.prlimit(worker.pid, resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        said = [worker.communicate(timeout=300)[1].decode() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, text) for worker, text in zip(workers, said, strict=True)]


def train_in_world(processes: int, *arguments: Any) -> None:
    """As `run_world`; every process has to end well."""
    ended = run_world(processes, *arguments)
    assert [code for code, _ in ended] == [0] * processes, [text for _, text in ended]


class Hung(Exception):
    """A world that did not end; what its processes were doing stands on stderr."""


def fork_world(processes: int, work: Callable[[], None], limit_s: float = 200.0) -> None:
    """Runs `work` in every process of a world of copies of this one, which has imported what they need and has no threads."""
    port, context = free_port(), multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(variables(rank, processes, port), work)) for rank in range(processes)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + limit_s
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    codes = [worker.exitcode for worker in workers]
    for number in (signal.SIGUSR2, signal.SIGKILL):
        for worker in workers:
            if worker.exitcode is None:
                os.kill(worker.pid, number)
                worker.join(5.0)
    if None in codes:
        raise Hung(f"exit codes of a world of {processes} after {limit_s:g} s: {codes}")
    if any(codes):
        raise SystemExit(f"exit codes of a world of {processes}: {codes}")


def _worker(place: dict[str, str], work: Callable[[], None]) -> None:
    os.environ.update(place)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    faulthandler.register(signal.SIGUSR2)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)
