"""What someone who submits batch jobs needs to know of a cluster, looked up from where this process runs: `vid doctor --slurm`.

Every fact is a row: part, name, state, a note that says what to do, and `level`: ok, warning (it works, badly) or error (it will not).
"""

import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vidcli import launch
from vidcli.format import duration

Row = dict[str, Any]
PROGRAMS = {
    "sbatch": "jobs are submitted where it is: on a login node",
    "srun": "starts one task per GPU; without it a job has one process, or --gpus N on one node",
    "scontrol": "names the first node of a job, and requeues it: without it set MASTER_ADDR, and submit again by hand",
    "squeue": "tells the time left",
}
SHM_GIB, FILES, FREE_GIB = 2, 1024, 10
"""Below these a warning: shared memory for clips on their way from reader processes, open files, space for checkpoints."""
ANSWER_S = 3.0


def row(part: str, name: str, state: object, note: str = "", level: str = "ok") -> Row:
    return {"part": part, "name": name, "state": str(state), "note": note, "level": level}


def report(folder: Path) -> list[Row]:
    """All rows; `folder` is where runs would be written."""
    return [row for part in (queue, job, world, signals, limits, lambda: storage(folder), hub) for row in part()]


def queue() -> Iterator[Row]:
    """Which programs of SLURM are here."""
    inside = "SLURM_JOB_ID" in os.environ
    for name, purpose in PROGRAMS.items():
        found = shutil.which(name)
        needed = inside and name in ("srun", "scontrol")
        yield row("queue", name, found or "missing", "" if found else purpose, "warning" if needed and not found else "ok")


def job() -> Iterator[Row]:
    """The job around this process: nodes, tasks, GPUs, CPUs, time left."""
    env = os.environ
    number = env.get("SLURM_JOB_ID")
    if number is None:
        yield row("job", "job", "none", "this is outside of a job: run it in one too, with srun --pty vid doctor --slurm")
        return
    array = f", part {env['SLURM_ARRAY_TASK_ID']} of array {env.get('SLURM_ARRAY_JOB_ID')}" if "SLURM_ARRAY_TASK_ID" in env else ""
    yield row("job", "job", f"{number}{array}", "an array shares the inputs of a command among its jobs (--shard)" if array else "")
    nodes, tasks = _number("SLURM_JOB_NUM_NODES", 1), _number("SLURM_NTASKS", 1)
    yield row("job", "nodes", nodes, env.get("SLURM_JOB_NODELIST", ""))
    yield _tasks(tasks)
    gpus = _gpus()
    per_node = max(1, tasks // nodes)
    if gpus and per_node not in (1, gpus):
        yield row("job", "gpus", f"{gpus} on this node", f"{per_node} tasks per node: ask for --ntasks-per-node={gpus}", "warning")
    else:
        note = "none asked for: --gpus-per-node=N" if not gpus else f"--gpus {gpus} uses them all" if per_node == 1 < gpus else ""
        yield row("job", "gpus", f"{gpus} on this node" if gpus else "none", note)
    left = time_left(number)
    state = "unknown" if left is None else duration(left)
    yield row(
        "job",
        "time left",
        state,
        "too short for a checkpoint" if left is not None and left < 300 else "",
        _warn(left is not None and left < 300),
    )


def _tasks(tasks: int) -> Row:
    started = _number("SLURM_STEP_NUM_TASKS", 0)
    if not started:
        note = "not inside srun: vid is one process here" + (", put srun before it" if tasks > 1 else "")
        return row("job", "tasks", tasks, note, _warn(tasks > 1))
    if started > 1 and launch.slurm_nodes():
        return row("job", "tasks", started, "one per node: with --gpus N vid starts N processes on each, without it one")
    if started > 1:
        return row("job", "tasks", started, f"vid joins them as one world; this is process {os.environ.get('SLURM_PROCID')}")
    return row("job", "tasks", started, "one process; --gpus N starts N on this node")


def time_left(number: str) -> float | None:
    """Seconds until the job ends, by squeue or SLURM_JOB_END_TIME; None: not known, or without limit."""
    told = _ask("squeue", "--noheader", "--job", number, "--format", "%L")
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", told.strip())
    if match:
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return max(0.0, int(end) - time.time()) if end.isdigit() else None


def world() -> Iterator[Row]:
    """Where processes of several nodes would meet."""
    from tasks.core.errors import UsageError

    nodes = _number("SLURM_STEP_NUM_NODES", _number("SLURM_JOB_NUM_NODES", 1))
    given = os.environ.get("MASTER_ADDR")
    try:
        address = given or launch.first_node(nodes)
    except UsageError as error:
        yield row("world", "MASTER_ADDR", "unknown", f"{error.message}; {error.hint}", "error")
        return
    origin = "of this step" if launch.in_world() else "given" if given else "the first node" if nodes > 1 else "one node"
    try:
        found = sorted({entry[4][0] for entry in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        yield row("world", "MASTER_ADDR", address, f"{origin}; cannot be resolved: {error.strerror}; set it to an address", "error")
        return
    alone = nodes > 1 and all(name.startswith("127.") or name == "::1" for name in found)
    note = "the other nodes cannot reach a loopback address: set MASTER_ADDR" if alone else origin
    yield row("world", "MASTER_ADDR", f"{address} = {', '.join(found)}", note, "error" if alone else "ok")
    if port := os.environ.get("MASTER_PORT"):
        yield row("world", "MASTER_PORT", port, "of this step" if launch.in_world() else "given")


def signals() -> Iterator[Row]:
    """Whether this process would hear of the end of its job in time."""
    blocked = sorted(s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGUSR1})
    note = "something before vid blocks them: no checkpoint is written when the job ends" if blocked else "a checkpoint, exit 75"
    yield row("signals", "TERM, USR1", f"blocked: {', '.join(blocked)}" if blocked else "heard", note, _warn(bool(blocked)))
    number = os.environ.get("SLURM_JOB_ID")
    if number is None:
        return
    script = _ask("scontrol", "write", "batch_script", number, "-")
    asked = re.findall(r"^#SBATCH\s+--signal[= ](\S+)", script, re.MULTILINE)
    if asked:
        fine = "USR1" in asked[-1] or "TERM" in asked[-1]
        yield row("signals", "before the end", asked[-1], "" if fine else "vid listens to USR1 and TERM", _warn(not fine))
    elif script:
        yield row("signals", "before the end", "none", "TERM comes seconds before KILL: #SBATCH --signal=USR1@300", "warning")
    else:
        yield row("signals", "before the end", "unknown", "the batch script should have: #SBATCH --signal=USR1@300")
    shown = _ask("scontrol", "show", "job", number)
    if found := re.search(r"\bRequeue=(\d)", shown):
        yield row(
            "signals", "requeue", "yes" if found[1] == "1" else "no", "" if found[1] == "1" else "#SBATCH --requeue", _warn(found[1] == "0")
        )


def limits() -> Iterator[Row]:
    """Cores, threads, open files, shared memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked, workers = _number("SLURM_CPUS_PER_TASK", 0), _number("VID_WORKERS", 0)
    note, level = (f"SLURM gave {asked} per task" if asked else "of this process"), "ok"
    if asked and cores < asked:
        note, level = f"SLURM says {asked} per task: srun lost them; export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK", "warning"
    elif workers > cores:
        note, level = f"VID_WORKERS is {workers}: more than cores", "warning"
    elif cores == 1 and asked == 0 and "SLURM_JOB_ID" in os.environ:
        note, level = "reading videos needs more: --cpus-per-task=8", "warning"
    yield row("limits", "cores", f"{cores} of {os.cpu_count()}", note, level)
    threads = os.environ.get("OMP_NUM_THREADS")
    several = _number("SLURM_NTASKS", 1) > 1
    if threads is None:
        yield row("limits", "OMP_NUM_THREADS", "not set", "each process computes with a thread per core" if several else "", _warn(several))
    else:
        over = threads.isdigit() and int(threads) > cores
        yield row("limits", "OMP_NUM_THREADS", threads, f"more than the {cores} cores" if over else "", _warn(over))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    few = files != resource.RLIM_INFINITY and files < FILES
    shown = "unlimited" if files == resource.RLIM_INFINITY else files
    yield row("limits", "open files", shown, f"with many workers: ulimit -n {FILES * 64}" if few else "", _warn(few))
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / 2**30
        small = size < SHM_GIB
        yield row("limits", "/dev/shm", f"{size:.1f} GiB", "clips pass through it: fewer --workers" if small else "", _warn(small))


def storage(folder: Path) -> Iterator[Row]:
    """Whether a run can be written to a folder: a file, a rename over another, a lock; then the place for temporary files."""
    asked = folder.absolute()
    folder = next(place for place in (asked, *asked.parents) if place.exists())
    missing = "" if asked == folder else f"{asked} is not there yet"
    try:
        with tempfile.TemporaryDirectory(prefix=".vid-doctor-", dir=folder) as name:
            took = _write_and_rename(Path(name))
            locked = _lock(Path(name) / "lock")
    except OSError as error:
        note = "; ".join(filter(None, (missing, "runs cannot be written here: choose another --out")))
        yield row("storage", "write", f"{folder}: {error.strerror}", note, "error")
        return
    kind, free = filesystem(folder), shutil.disk_usage(folder).free / 2**30
    note = "; ".join(filter(None, (kind, "slow for checkpoints" if took > 2 else "", missing)))
    yield row("storage", "write, rename", f"{folder.resolve()}: {1000 * took:.0f} ms", note)
    lacking = "another process writing to the same run would not be noticed: mount it with flock, and never start a run twice"
    yield row("storage", "lock", "works" if locked else "does not work", "" if locked else lacking, _warn(not locked))
    yield row("storage", "free", f"{free:.0f} GiB", "little for checkpoints" if free < FREE_GIB else "", _warn(free < FREE_GIB))
    try:
        with tempfile.NamedTemporaryFile() as file:
            place = Path(file.name).parent
        yield row("storage", "TMPDIR", place, f"{shutil.disk_usage(place).free / 2**30:.0f} GiB free")
    except OSError as error:
        yield row("storage", "TMPDIR", "not writable", f"{error.strerror}: set TMPDIR", "error")


def _write_and_rename(folder: Path) -> float:
    """Seconds for what a checkpoint does: write, flush to the disk, rename over what was there. OSError where it cannot be."""
    started = time.monotonic()
    (folder / "file").write_bytes(b"old")
    with open(folder / "new", "wb") as file:
        file.write(b"new" * 2**20)
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / "new", folder / "file")
    if (folder / "file").stat().st_size != 3 * 2**20:
        raise OSError(5, "what was written is not what is there")
    return time.monotonic() - started


def _lock(path: Path) -> bool:
    """Whether a second opening of a locked file is told so."""
    with open(path, "w") as first, open(path, "w") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def filesystem(folder: Path) -> str:
    """Kind of the file system under a folder (`lustre`, `nfs4`); empty where the system does not say."""
    best = ("", "")
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, place, kind, *_ = line.split()
        if folder.resolve().is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def hub() -> Iterator[Row]:
    """Where models from the Hub are kept, how many, and whether the Hub can be reached."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    cache = Path(HF_HUB_CACHE)
    held = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    given = "HF_HOME" in os.environ or "HF_HUB_CACHE" in os.environ or "VID_CACHE" in os.environ
    yield row("hub", "cache", cache, f"{held} repositories" + ("" if given else "; HF_HOME moves it to a file system that all nodes see"))
    if HF_HUB_OFFLINE:
        yield row("hub", "network", "not asked", "HF_HUB_OFFLINE is set: hf:// only from the cache")
        return
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    host, port = _address(endpoint)
    if host is None:
        yield row("hub", "network", "HF_ENDPOINT is not an address", "write https://HOST, or unset it", "warning")
        return
    proxy = None if proxy_bypass(host) else getproxies().get(urlsplit(endpoint).scheme)
    name = host
    if proxy:
        host, port = _address(proxy if "://" in proxy else f"http://{proxy}")
        name = f"the proxy to {name}" if host is None else f"{host}, the proxy to {name},"
    try:
        socket.create_connection((host or "", port), ANSWER_S).close()
        yield row("hub", "network", f"{name} answers")
    except OSError:
        advice = "on the login node: vid presets pull, hf download; in the job: export HF_HUB_OFFLINE=1"
        yield row("hub", "network", f"{name} does not answer", advice, "warning")


def _address(url: str) -> tuple[str | None, int]:
    """(host, port) of a URL; without a host where it is none."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") else None, parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return None, 0


def _gpus() -> int:
    """GPUs that SLURM gave on this node; without its word those that CUDA may see."""
    if count := _number("SLURM_GPUS_ON_NODE", 0):
        return count
    seen = os.environ.get("SLURM_JOB_GPUS") or os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return len([name for name in seen.split(",") if name])


def _number(variable: str, otherwise: int) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else otherwise


def _warn(condition: bool) -> str:
    return "warning" if condition else "ok"


def _ask(*command: str) -> str:
    """What a program of SLURM says; empty where it is missing, fails or does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
