"""Seconds to the first batch, and memory of every process, against the number of rows of a manifest.

The same few small videos are repeated. `loader` reads the manifest, hashes it and takes one batch of an ordered pass, as `vid eval` does;
`pretrain` is the whole command up to its first logged step. Memory is the highest seen in any process of a kind: what it wrote and no other
process has (own), and that with its share of what several map (PSS).
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benches import ROOT, VID

PLAIN = ("-m", "benches.manifest")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", default=["csv", "jsonl", "txt"], choices=["csv", "jsonl", "txt"])
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--only", nargs="+", default=["loader", "pretrain"], choices=["loader", "pretrain"])


def run(args: argparse.Namespace) -> None:
    import os

    from tasks.core.data.synthetic import render_motion_set

    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    print("| rows | format | file MiB | what | seconds | main own MiB | main PSS MiB | worker own MiB | worker PSS MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        render_motion_set(folder / "videos", 1, seed=0, frames=24, splits={"train": 1.0})
        videos = sorted((folder / "videos").rglob("*.mp4"))
        for rows in args.rows:
            for kind in args.formats:
                manifest = folder / f"{rows}.{kind}"
                with open(manifest, "w") as out:
                    out.writelines(lines(videos, folder, rows, kind))
                for what in args.only:
                    seconds, memory = (first_batch if what == "loader" else first_step)(manifest, folder, args.workers)
                    figures = " | ".join(f"{memory[key] / 2**20:.0f}" for key in ("main own", "main PSS", "worker own", "worker PSS"))
                    size = manifest.stat().st_size / 2**20
                    print(f"| {rows} | {kind} | {size:.0f} | {what} | {seconds:.1f} | {figures} |", flush=True)
                manifest.unlink()


def lines(videos: list[Path], folder: Path, rows: int, kind: str) -> Iterable[str]:
    """The text of a manifest that repeats `videos`, each row with another time range where the format has one."""
    names = [str(video.relative_to(folder)) for video in videos]
    labels = [video.parent.name for video in videos]
    if kind == "csv":
        yield "path,label,start,end,split,source\n"
    for number in range(rows):
        name, label = names[number % len(names)], labels[number % len(names)]
        start = round(number % 97 / 1000, 3)
        if kind == "csv":
            yield f"{name},{label},{start},{start + 1.5},train,camera {number % 1000}\n"
        elif kind == "jsonl":
            record = {
                "path": name,
                "label": label,
                "start": start,
                "end": start + 1.5,
                "split": "train",
                "source": f"camera {number % 1000}",
            }
            yield json.dumps(record) + "\n"
        else:
            yield f"{name} {label}\n"


def first_batch(manifest: Path, folder: Path, workers: int) -> tuple[float, dict[str, float]]:
    """A process that reads, hashes and takes the first batch of an ordered pass."""
    import sys

    process = subprocess.Popen([sys.executable, *PLAIN, str(manifest), str(workers)], cwd=ROOT / "scripts")
    return watch(process, lambda: process.poll() is not None)


def first_step(manifest: Path, folder: Path, workers: int) -> tuple[float, dict[str, float]]:
    """`vid pretrain` to its first logged step."""
    out = folder / f"run-{manifest.name}"
    settings = ["data.preload=false", "train.log_every_steps=1"]
    words = ["pretrain", "--preset", "masked/videomae-tiny", "--data", manifest, "--max-steps", 2, "--workers", workers, "--visualize", 0]
    words += ["--out", out, "-q", "--json", *(word for setting in settings for word in ("--set", setting))]
    process = subprocess.Popen([*VID, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL)
    return watch(process, lambda: (out / "metrics.jsonl").exists() or process.poll() is not None)


def watch(process: subprocess.Popen, done) -> tuple[float, dict[str, float]]:
    """(seconds until `done`, highest memory of the process itself and of any it started, bytes); waits for its end."""
    import psutil

    started = time.monotonic()
    found = dict.fromkeys(("main own", "main PSS", "worker own", "worker PSS"), 0.0)
    seconds = None
    own = psutil.Process(process.pid)
    while process.poll() is None:
        for kind, each in [("main", own), *(("worker", child) for child in loader_processes(own))]:
            for part, size in memory_of(each.pid).items():
                found[f"{kind} {part}"] = max(found[f"{kind} {part}"], size)
        seconds = time.monotonic() - started if seconds is None and done() else seconds
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with exit code {process.returncode}")
    return seconds or time.monotonic() - started, found


def memory_of(pid: int) -> dict[str, float]:
    """`own` and `PSS` of a process, bytes; nothing where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return {"own": kib["Private_Dirty"] * 1024, "PSS": kib["Pss"] * 1024} if kib else {}


def loader_processes(own) -> list:
    """The processes that a fork server below `own` has forked."""
    import psutil

    try:
        return [child for server in own.children() for child in server.children()]
    except psutil.Error:
        return []


def one_batch(manifest: str, workers: int) -> None:
    """What `vid eval` does before its first result."""
    from tasks.core.clips.config import ClipConfig, DataConfig
    from tasks.core.clips.loader import make_eval_loader
    from tasks.core.data.manifest import label_names, read_sources
    from tasks.core.engine.run import hash_rows

    rows = read_sources([manifest], "val" if not manifest.endswith(("csv", "jsonl")) else None)
    hash_rows(rows)
    data = DataConfig(clip=ClipConfig(frames=8, stride_frames=2), short_side=32, workers=workers)
    batch = next(iter(make_eval_loader(rows, data, label_names(rows), 32)))
    if not len(batch["video"]):
        raise SystemExit(f"{manifest}: no video could be read: {batch['skipped'][:1]}")


if __name__ == "__main__":
    import sys

    one_batch(sys.argv[1], int(sys.argv[2]))
