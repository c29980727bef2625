"""What a run folder tells without opening it: state, step, time left, last metric, how to continue. Imports no torch."""

import fcntl
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidcli.format import duration

COLUMNS = ("run", "state", "step", "of", "left", "metric", "size")
_SHOWN = ("top1", "avg_f1", "reconstruction", "loss")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / "run.json").is_file() and (folder / "config.yaml").is_file()


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
    """Where a run stands.

    Returns:
        `run`, `task`, `verb`, `preset`, `state` (finished, running, stopped, diverged, begun), `step`, `of`, `left` (at the pace of the
        last log lines), `metric`, `skipped`, `bytes`, `checkpoints`, `model`, `continue` (the command).
    """
    facts = _read(folder / "run.json")
    lines = _lines(folder)
    train = [line for line in lines if line.get("kind") == "train"]
    last = train[-1] if train else {}
    checkpoints = sorted(path.parent.name for path in folder.glob("**/checkpoints/*/DONE"))
    return {
        "run": str(folder),
        "task": facts.get("task"),
        "verb": facts.get("verb"),
        "preset": facts.get("preset"),
        "state": _state(folder, lines, checkpoints),
        "step": last.get("step", 0),
        "of": last.get("total"),
        "left": _left(last),
        "metric": _metric(_read(folder / "result.json"), lines),
        "skipped": last.get("skipped", 0),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "checkpoints": checkpoints,
        "model": str(folder / "model") if (folder / "model").is_dir() else None,
        "continue": shlex.join(facts.get("argv", [])),
    }


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
    if not last.get("clips_per_s") or not last.get("total"):
        return None
    return duration((last["total"] - last["step"]) * last["clips"] / last["clips_per_s"])


def _metric(result: dict[str, Any], lines: list[dict[str, Any]]) -> str | None:
    for values in (result, *(line for line in reversed(lines) if line.get("kind") in ("eval", "train"))):
        for name in _SHOWN:
            if isinstance(values.get(name), int | float):
                return f"{name} {values[name]:.4g}"
    return None


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Log lines of the run, or of its part that was written last."""
    files = [path for path in (folder / "metrics.jsonl", *folder.glob("*/metrics.jsonl")) if path.is_file()]
    if not files:
        return []
    found = []
    for line in max(files, key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
