"""The file that `accelerate config` writes: where it is, and what of it a launch here takes over."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.core.errors import UsageError

VARIABLE = "ACCELERATE_CONFIG_FILE"
AGAIN = "run: accelerate config"
PLAIN = ("NO", "MULTI_GPU", "MULTI_CPU", "FSDP")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class AccelerateFile:
    """What is taken over.

    Attributes:
        path: the file.
        machines: how many there are; rank, address and port are read from it by accelerate itself.
        fsdp: parameters are sharded.
        gpus: GPUs it names; None: all.
    """

    path: Path
    machines: int = 1
    fsdp: bool = False
    gpus: int | None = None


def find() -> Path | None:
    """The file that ACCELERATE_CONFIG_FILE names, else the default one of `accelerate config`, else None. Raises UsageError.

    `VID_CACHE` moves our HF_HOME but not that of the `accelerate` command, so its usual place is looked at too.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_file():
            raise UsageError(f"{VARIABLE} names a file that does not exist: {named}", AGAIN)
        return Path(named)
    usual = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface")
    ours = os.path.join(os.environ.get("VID_CACHE", ""), "huggingface")
    home = os.environ.get("HF_HOME", usual)
    for folder in (home, usual) if home == ours else (home,):
        for name in ("default_config.yaml", "default_config.json"):
            if (file := Path(folder).expanduser() / "accelerate" / name).is_file():
                return file
    return None


def read(path: Path, cpu: bool) -> AccelerateFile:
    """What a launch on GPUs, or on the CPU, takes from the file. UsageError for what vid cannot do, and for a file that is none."""
    import yaml

    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}", AGAIN) from None
    if not isinstance(found, dict) or not isinstance(found.get("distributed_type"), str):
        raise UsageError(f"{path} is not a configuration of accelerate: it has no distributed_type", AGAIN)
    kind, machines, rank = found["distributed_type"], found.get("num_machines") or 1, found.get("machine_rank") or 0
    if type(machines) is not int or machines < 1:
        raise UsageError(f"{path}: num_machines is {machines!r}", AGAIN)
    if type(rank) is not int or not 0 <= rank < machines:
        raise UsageError(f"{path}: machine_rank is {rank!r} of {machines} machines, counted from 0", AGAIN)
    if machines > 1 and not found.get("main_process_ip"):
        raise UsageError(f"{path}: {machines} machines, but no main_process_ip", AGAIN)
    if cpu:
        return AccelerateFile(path, machines)
    if kind not in PLAIN:
        raise UsageError(f"{path}: training under {kind} is not supported", f"choose multi-GPU or FSDP in: {AGAIN.removeprefix('run: ')}")
    if (precision := str(found.get("mixed_precision") or "no")) not in PRECISIONS:
        raise UsageError(f"{path}: mixed_precision is {precision}; known: {', '.join(PRECISIONS)}", AGAIN)
    ids = str(found.get("gpu_ids") or "all")
    return AccelerateFile(path, machines, kind == "FSDP", None if ids == "all" else len(ids.split(",")))
