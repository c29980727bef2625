"""What a batch queue is handed: an sbatch file that requeues itself until its command is done."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.errors import UsageError

TRAINING = ("pretrain", "finetune")
SHARDED = (
    "classify",
    "detect-boundaries",
    "detect-anomalies",
    "detect-events",
    "gen-pseudo",
    "extract-features",
    "index",
    "motion-boxes",
    "data check",
    "data flow",
)
"""Commands that take their share of the inputs from the array they run in."""


@dataclass(frozen=True)
class Job:
    """What is asked of the queue; None and empty: not stated, the cluster's default.

    Attributes:
        nodes, gpus: gpus per node, one task each; 0: one task per node on the CPU.
        cpus: per task.
        array: jobs that share the inputs.
        time: as sbatch takes it (`11:00:00`, `2-00:00:00`).
        warn_s: how long before its end the job is told to write a checkpoint.
        setup: shell lines before the command.
        extra: further sbatch options as they stand, e.g. `--constraint=h100`.
    """

    name: str
    nodes: int = 1
    gpus: int = 0
    cpus: int = 8
    time: str = "24:00:00"
    memory: str | None = None
    partition: str | None = None
    account: str | None = None
    array: int | None = None
    warn_s: int = 300
    log: str = "slurm-%x-%A.log"
    setup: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def script(command: Sequence[str], job: Job) -> str:
    """The sbatch file for `vid <command>`.

    Every task of `srun` joins the world that SLURM describes (`vidcli.launch`), so no launcher stands between the queue's signal and
    the training loop. USR1 reaches the tasks `warn_s` before the time is up; they write a checkpoint and exit 75, and the job requeues
    itself. Who puts a launcher into the file (torchrun) finds the variables that keep it from ending workers early.

    Raises:
        UsageError: options that contradict the command.
    """
    words = _checked(command, job)
    tasks = max(1, job.gpus)
    array = job.array is not None
    log = job.log.replace("%A", "%A_%a") if array else job.log.replace("%A", "%j")
    asked = {
        "job-name": job.name,
        "nodes": job.nodes,
        "ntasks-per-node": tasks,
        "gpus-per-node": job.gpus or None,
        "cpus-per-task": job.cpus,
        "time": job.time,
        "mem": job.memory,
        "partition": job.partition,
        "account": job.account,
        "array": f"0-{job.array - 1}" if array else None,
        "signal": f"USR1@{job.warn_s}",
        "open-mode": "append",
        "output": log,
    }
    head = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
    identity = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if array else "$SLURM_JOB_ID"
    return "\n".join(
        [
            "#!/bin/bash",
            *head,
            "#SBATCH --requeue",
            *(f"#SBATCH {option}" for option in job.extra),
            "",
            "# written by `vid slurm`; run it with: sbatch FILE",
            *job.setup,
            "export PYTHONUNBUFFERED=1",
            "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
            "export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1  # a launcher passes USR1 on instead of dying of it",
            f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={job.warn_s}                    # and waits for the checkpoint",
            "",
            f"srun --kill-on-bad-exit=0 vid {words}",
            "code=$?",
            "case $code in",
            f'  75) echo "preempted, checkpoint written: requeueing"; scontrol requeue "{identity}" ;;',
            "esac",
            "exit $code",
            "",
        ]
    )


def _checked(command: Sequence[str], job: Job) -> str:
    verb = command[0] if command else ""
    if verb in ("", "slurm"):
        raise UsageError("no command to run in the job", "vid slurm [OPTIONS] -- pretrain --preset NAME --data FILE")
    for flag in ("--gpus", "--processes"):
        if any(word == flag or word.startswith(f"{flag}=") for word in command):
            raise UsageError(
                f"{flag} inside the job would start a second launcher", f"give vid slurm --gpus N (per node) and leave out {flag}"
            )
    if job.array is not None and verb in TRAINING:
        raise UsageError(
            f"an array would train the same run {job.array} times at once", "leave out --array; --nodes and --gpus share one run"
        )
    if verb == "data":
        verb = " ".join(command[:2])  # the others of its commands write one file of all inputs
    if job.array is not None and verb not in SHARDED:
        raise UsageError(f"vid {verb} does not share its inputs in an array", f"those that do: {', '.join(SHARDED)}")
    if verb not in TRAINING and job.nodes * max(1, job.gpus) > 1:
        raise UsageError(f"vid {verb} is one process", "give --array N to share the inputs among jobs")
    return shlex.join(command)
