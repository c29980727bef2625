"""What a run folder tells without opening it: state, step, time left, last metric, how to continue. Imports no torch."""

import fcntl
import json
import math
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from vidcli.format import duration

COLUMNS = ("run", "state", "step", "of", "left", "metric", "size")
_SHOWN = ("top1", "avg_f1", "reconstruction", "loss")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, also one that lost its run.json."""
    return (folder / "config.yaml").is_file() and any((folder / name).exists() for name in ("run.json", "checkpoints", "metrics.jsonl"))


def find(roots: list[Path]) -> Iterator[Path]:
    """Run folders at or below `roots`, in order of their names; runs within runs are not looked for."""
    for root in roots:
        for folder, below, _ in os.walk(root):
            if is_run(Path(folder)):
                below.clear()
                yield Path(folder)
            else:
                below[:] = sorted(name for name in below if not name.startswith("."))


def state(folder: Path) -> dict[str, Any]:
    """Where a run stands, whatever is left of it; a run that is being written may change while it is read.

    Returns:
        `run`, `task`, `verb`, `preset`, `state` (finished, running, stopped, diverged, begun, damaged), `step`, `of`, `left` (at the pace
        of the last log lines, of a run that can go on), `metric`, `skipped`, `bytes`, `checkpoints`, `model`, `damaged` (files that
        cannot be understood), `continue` (the command; None for a finished run).
    """
    facts, result = _read(folder / "run.json"), _read(folder / "result.json")
    lines, checkpoints, damaged = _lines(folder), _checkpoints(folder), _damaged(folder)
    last = next((line for line in reversed(lines) if line.get("kind") == "train"), {})
    now = "damaged" if damaged else _state(folder, lines, checkpoints)
    return {
        "run": str(folder),
        "task": facts.get("task"),
        "verb": facts.get("verb"),
        "preset": facts.get("preset"),
        "state": now,
        "step": _number(last, "step") or 0,
        "of": _number(last, "total"),
        "left": _left(last) if now in ("running", "stopped", "begun") else None,
        "metric": _metric(result, lines),
        "skipped": _number(last, "skipped") or 0,
        "bytes": _size(folder),
        "checkpoints": checkpoints,
        "model": str(folder / "model") if (folder / "model").is_dir() else None,
        **({"damaged": damaged} if damaged else {}),
        "continue": None if now == "finished" else _command(facts),
    }


def _command(facts: dict[str, Any]) -> str | None:
    """The command that the run was started with, from the folder where it was."""
    words, place = facts.get("argv"), facts.get("cwd")
    if not isinstance(words, list) or not words:
        return None
    there = f"cd {shlex.quote(place)} && " if isinstance(place, str) and place != os.getcwd() else ""
    return there + shlex.join(map(str, words))


def _damaged(folder: Path) -> list[str]:
    """Files of a run that are there and hold something else than they should."""
    import yaml

    found = [name for name in ("run.json", "result.json") if (folder / name).exists() and not _read(folder / name)]
    try:
        settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        settings = None
    return found if isinstance(settings, dict) else ["config.yaml", *found]


def _checkpoints(folder: Path) -> list[str]:
    """Names of whole checkpoints, of parts of the run too."""
    marks = [*folder.glob("checkpoints/*/DONE"), *folder.glob("*/checkpoints/*/DONE")]
    return sorted({mark.parent.name for mark in marks})


def _size(folder: Path) -> int:
    """Bytes on disk, hard links counted once; files that vanish meanwhile are not counted."""
    seen = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def _state(folder: Path, lines: list[dict[str, Any]], checkpoints: list[str]) -> str:
    if (folder / "result.json").exists():
        return "finished"
    if _locked(folder):
        return "running"
    if lines and lines[-1].get("kind") == "diverged":
        return "diverged"
    return "stopped" if checkpoints else "begun"


def _locked(folder: Path) -> bool:
    """Whether a process holds the run, on this machine or on one that shares its locks."""
    if not (folder / ".lock").is_file():
        return False
    try:
        with open(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _left(last: dict[str, Any]) -> str | None:
    """Time to the last step at the pace of the last log line, evaluations not counted."""
    total, step, clips, pace = (_number(last, name) for name in ("total", "step", "clips", "clips_per_s"))
    return duration(max(0, total - step) * clips / pace) if total and clips and pace and step is not None else None


def _metric(result: dict[str, Any], lines: list[dict[str, Any]]) -> str | None:
    for values in (result, *(line for line in reversed(lines) if line.get("kind") in ("eval", "train"))):
        for name in _SHOWN:
            if (value := _number(values, name)) is not None:
                return f"{name} {value:.4g}"
    return None


def _number(values: dict[str, Any], name: str) -> float | None:
    """A finite number, where there is one."""
    value = values.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Log lines of the run, or of its part that was written last."""
    from tasks.core.engine.run import read_metrics

    files = {}
    for path in (folder / "metrics.jsonl", *folder.glob("*/metrics.jsonl")):
        with suppress(OSError):
            if path.is_file():  # to open a pipe is to wait for whoever writes to it
                files[path.stat().st_mtime] = path
    try:
        return read_metrics(files[max(files)]) if files else []
    except OSError:
        return []


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
