"""A toy training set for worlds started on the command line, and programs that stand in for those of SLURM."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SRUN = """#!{python}
# srun --nodes N --ntasks-per-node K COMMAND...: every task here, each with the variables of its place
import os, subprocess, sys
nodes, each, command = int(sys.argv[2]), int(sys.argv[4]), sys.argv[5:]
tasks = []
for rank in range(nodes * each):
    step = {{"STEP_NUM_NODES": nodes, "STEP_NUM_TASKS": nodes * each, "STEP_ID": 0, "STEP_NODELIST": "node[0-1]", "JOB_ID": 77}}
    place = {{"PROCID": rank, "LOCALID": rank % each, "NODEID": rank // each, "NTASKS": nodes * each}}
    told = {{f"SLURM_{{name}}": str(value) for name, value in (step | place).items()}}
    tasks.append(subprocess.Popen(command, env=os.environ | told))
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
[ "$1 $2 $3" = "show hostnames node[0-1]" ] && echo 127.0.0.1 && echo 127.0.0.2
"""


def write_programs(folder: Path) -> Path:
    """A folder for the PATH with srun and scontrol."""
    folder.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def write_videos(folder: Path) -> Path:
    """Eight videos of six frames, 32 px."""
    rng = np.random.default_rng(0)
    for video in range(8):
        (folder / f"v{video}").mkdir(parents=True)
        for frame, picture in enumerate(rng.integers(0, 255, (6, 32, 32, 3), np.uint8)):
            Image.fromarray(picture).save(folder / f"v{video}" / f"{frame:03}.png")
    return folder


def command(videos: Path, out: Path, batch: int, *more: str) -> list[str]:
    """`vid pretrain` of a tiny model for two steps, with `batch` videos per process."""
    sets = ["model.dim=32", "model.depth=1", "model.heads=2", "model.image_size=32", "model.frames=4", "model.patch=8", "decoder.depth=1"]
    sets += ["decoder.dim=16", "decoder.heads=1", "data.clip.frames=4", "data.clip.stride_frames=1", "train.log_every_steps=1"]
    given = ["--preset", "masked/videomae-tiny", "--data", str(videos), "--max-steps", "2", "--batch-size", str(batch), "--workers", "0"]
    options = ["--precision", "fp32", "--visualize", "0", *(word for item in sets for word in ("--set", item))]
    return [sys.executable, "-m", "vidcli", "pretrain", *given, *options, "--out", str(out), *more]


def environment(**changes: str) -> dict[str, str]:
    """Of a process on the CPU that is in no world yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "ACCELERATE_", "TORCHELASTIC_"))}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        kept.pop(name, None)
    return {**kept, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **changes}


def losses(run: Path) -> list[float]:
    """Of every step."""
    return [row["loss"] for line in (run / "metrics.jsonl").read_text().splitlines() if (row := json.loads(line))["kind"] == "train"]


def world_of(run: Path) -> int:
    """Processes that wrote the last checkpoint."""
    return json.loads(max((run / "checkpoints").glob("*/state.json")).read_text())["world"]
