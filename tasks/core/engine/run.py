"""Run folders: what a training run writes, and how the same command finds it again."""

import csv
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.core import hub, locks
from tasks.core.config import Config
from tasks.core.errors import InputError, UsageError
from tasks.core.files import write_json, write_text
from tasks.core.reporter import Quiet, Reporter
from tasks.core.world import world

MACHINE_KEYS = {  # may differ between the parts of one run: they change no number
    ("data", "workers"),
    ("data", "decoder"),
    ("data", "preload"),
    ("train", "save_every_s"),
    ("train", "save_every_steps"),
    ("train", "save_every_epochs"),
    ("train", "keep_last"),
    ("train", "log_every_steps"),
    ("train", "tensorboard"),
    ("train", "strict"),
    ("visualize",),
}


ADJUSTABLE = (
    "optim.",
    "augment.",
    "train.epochs",
    "train.max_steps",
    "train.precision",
    "train.compile",
    "train.shard",
    "train.eval_every_epochs",
)
"""Settings that a run which has begun may go on with: they change numbers, not shapes, data or the order of the videos."""
FIXED = ("optim.name", "augment.flow")


def adjustable(key: str) -> bool:
    """Whether a run that has begun may go on with another value of this setting."""
    return key.startswith(ADJUSTABLE) and key not in FIXED


def differences(old: dict, new: dict, path: tuple[str, ...] = (), before: str | None = None) -> list[str]:
    """Settings that differ between two resolved configurations, machine matters left out, as `key: old -> new`.

    Args:
        old, new: the configurations.
        path: where in them these parts are.
        before: the working folder that relative paths in `old` belong to; None: this one. Paths of one place are the same.
    """
    found = []
    for key in sorted(old.keys() | new.keys()):
        here = (*path, key)
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, here, before)
        elif a != b and here not in MACHINE_KEYS and not _same_place(a, b, before or os.getcwd()):
            found.append(f"{'.'.join(here)}: {a} -> {b}")
    return found


def _same_place(a: Any, b: Any, before: str) -> bool:
    """Whether two texts (or lists of them) are paths of the same file or folder, `a` seen from the folder `before`; a split counts."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same_place(*pair, before) for pair in zip(a, b, strict=True))
    if not (isinstance(a, str) and isinstance(b, str)) or a == b:
        return a == b
    return (place := _place(a, before)) is not None and place == _place(b, os.getcwd())


def _place(text: str, folder: str) -> tuple[str, str] | None:
    """(real path, split) of what exists; None for other texts."""
    for path, split in ((text, ""), text.rsplit("@", 1) if "@" in text else (text, "")):
        if text and os.path.exists(where := os.path.join(folder, path)):
            return os.path.realpath(where), split
    return None


class Run:
    """One run folder: `config.yaml run.json metrics.jsonl log.txt skipped.csv checkpoints/ model/`, and `result.json` once finished.

    Only the process of rank 0 writes, apart from `skipped.csv`, to which every process appends whole lines.
    """

    def __init__(self, folder: Path, config: Config, reporter: Reporter):
        self.folder, self.config, self.reporter = folder, config, reporter
        self.main = world().main
        self.skipped: dict[str, str] = {}
        self._untold: dict[str, str] = {}
        self._listed: dict[str, str] = {}
        self._lock = None

    @classmethod
    def open(
        cls,
        folder: Path,
        config: Config,
        task: str,
        verb: str,
        argv: list[str],
        reporter: Reporter | None = None,
        preset: str | None = None,
    ) -> "Run":
        """Creates the folder or takes it up again.

        Raises:
            UsageError: the folder holds something else, a run with other settings, or a run that another process is writing.
        """
        run = cls(Path(folder), config, reporter or Quiet())
        saved = {"task": task, "verb": verb, **config.model_dump(mode="json")}
        target = run.folder / "config.yaml"
        if run.main:
            run._prepare_folder(target, saved)
            write_text(target, yaml.safe_dump(saved, sort_keys=False, allow_unicode=True))
            if not (run.folder / "run.json").exists():
                write_json(
                    run.folder / "run.json",
                    {"task": task, "verb": verb, "preset": preset, "argv": argv, "cwd": os.getcwd(), **environment()},
                )
        run._listed = read_skipped(run.folder / "skipped.csv")
        return run

    def _prepare_folder(self, target: Path, saved: dict) -> None:
        self._lock = locks.hold(self.folder / ".lock", f"the run folder {self.folder}", self.reporter)
        for torn in self.folder.rglob(".*.tmp") if target.exists() else self.folder.glob(".config.yaml.*.tmp"):
            shutil.rmtree(torn) if torn.is_dir() else torn.unlink()  # of a process that was killed: the lock is ours
        if target.exists():
            old = self._with_defaults(self._settings_before(target))
            changed = differences(old, saved, before=self._cwd())
            began = ("metrics.jsonl", "checkpoints", "*/checkpoints", "result.json")
            untouched = not any(any(self.folder.glob(name)) for name in began)
            if changed and not untouched:
                self._accept(changed)
        elif any(p.name != ".lock" for p in self.folder.iterdir()):
            (self.folder / ".lock").unlink()
            self.close()
            raise UsageError(f"{self.folder} is not empty and holds no run", "choose another --out")

    def _cwd(self) -> str | None:
        """Where the command was given that began the run."""
        try:
            found = self.facts().get("cwd")
        except (UsageError, OSError):
            return None
        return found if isinstance(found, str) else None

    def _settings_before(self, target: Path) -> dict:
        try:
            old = yaml.safe_load(target.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            old = None
        if not isinstance(old, dict):
            self.close()
            raise UsageError(f"{target} is damaged, the settings of this run are lost", "choose another --out")
        return old

    def _with_defaults(self, old: dict) -> dict:
        """The settings of a run that began before some of them existed: those have their defaults."""
        chosen = {key: old.get(key) for key in ("task", "verb")}
        try:
            config = type(self.config)(**{key: value for key, value in old.items() if key not in chosen})
        except ValidationError:
            return old
        return {**chosen, **config.model_dump(mode="json")}

    def _accept(self, changed: list[str]) -> None:
        """Goes on with other settings, says and records which; raises UsageError for a finished run or where one must stay."""
        refused = [line for line in changed if not adjustable(line.partition(":")[0])]
        if self.finished or refused:
            self.close()
            again = f"to train with these choose another --out or --name; to go on from its weights: --from {self.folder}"
            raise UsageError(
                f"{self.folder} holds a {'finished ' if self.finished else ''}run with other settings: " + "; ".join(refused or changed),
                again if self.finished else "repeat the command with the same settings to continue it, or choose another --out",
            )
        self.reporter.warn(f"{self.folder} goes on with other settings: " + "; ".join(changed))
        self.record(changes=[*self.facts().get("changes", []), changed])

    def part(self, name: str) -> "Run":
        """A run within this one, for verbs that train several things one after the other: metrics and checkpoints of its own in the
        folder `name`; settings, lock, log and the list of skipped videos are this run's.
        """
        part = Run(self.folder / name, self.config, self.reporter)
        part.skipped, part.skip, part.pop_unsynced_skips = self.skipped, self.skip, self.pop_unsynced_skips
        if self.main:
            part.folder.mkdir(exist_ok=True)
        return part

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "result.json").exists()

    @property
    def result(self) -> dict[str, Any]:
        """What the finished run reported."""
        return _read_object(self.folder / "result.json", "delete it and run the same command again: the last checkpoint gives it anew")

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    def finish(self, result: dict[str, Any]) -> None:
        """Marks the run as finished with what it reports, and lets go of the folder."""
        if self.main:
            write_json(self.folder / "result.json", result)
        self.close()

    def close(self) -> None:
        """Lets another process (or another `Run` of this one) take up the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def record(self, **facts: Any) -> None:
        """Adds facts (data hash, device, number of parameters) to run.json, and the commits of what came from the Hub."""
        if self.main:
            before = self.facts()
            pinned = {**hub.pins(), **before.get("pinned", {})}  # a run that goes on keeps what it began with
            write_json(self.folder / "run.json", {**before, **({"pinned": pinned} if pinned else {}), **facts})

    def facts(self) -> dict[str, Any]:
        """What run.json holds. Raises UsageError where it is damaged."""
        return _read_object(self.folder / "run.json", "delete it: it will be written anew")

    def record_data(self, rows: Sequence) -> None:
        """Records what the run is fed; UsageError when a run that has begun was fed something else, since its order would change."""
        found = hash_rows(rows)
        if self.main:
            before = self.facts().get("data_hash", found)
            if before != found and any(any(self.folder.glob(name)) for name in ("checkpoints", "*/checkpoints")):
                raise UsageError(
                    f"the training videos of {self.folder} have changed since it began", "restore the manifest, or choose another --out"
                )
        self.record(data_hash=found, videos=len(rows))

    def log_metrics(self, **values: Any) -> None:
        """Appends one line to metrics.jsonl."""
        if self.main:
            with open(self.metrics_file, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def rewind_metrics(self, step: int, evaluated: int) -> None:
        """Drops what was logged after a checkpoint: training lines beyond `step`, evaluation lines beyond `evaluated`, a torn last line."""
        if self.main and self.metrics_file.exists():
            kept = [r for r in read_metrics(self.metrics_file) if r["step"] <= (evaluated if r["kind"] == "eval" else step)]
            write_text(self.metrics_file, "".join(json.dumps(r) + "\n" for r in kept))

    def pop_unsynced_skips(self) -> dict[str, str]:
        """What this process has skipped since it was asked last, for the others to count."""
        told, self._untold = self._untold, {}
        return told

    def skip(self, skipped: list[tuple[str, str]], strict: bool) -> None:
        """Counts unreadable videos and lists them in skipped.csv, each once. Raises InputError when `strict`.

        `skipped` is part of a checkpoint: a run that goes back to one does not count what it met later, though it is listed.
        """
        new = [(path, reason) for path, reason in skipped if path not in self.skipped]
        if new and strict:
            raise InputError(f"{new[0][0]}: {new[0][1]}", "drop --strict to skip unreadable videos, or run: vid data check MANIFEST")
        self.skipped.update(new)
        self._untold.update(new)
        path = self.folder / "skipped.csv"
        if new and world().size > 1:
            self._listed |= read_skipped(path)  # by the other processes
        new = [(video, reason) for video, reason in new if video not in self._listed]
        if not new:
            return
        end = _last_byte(path)
        with open(path, "a", newline="", encoding="utf-8") as file:
            file.write("path,reason\n" if not end else "" if end == b"\n" else "\n")  # a full disk or a kill may tear a line
            csv.writer(file).writerows(new)
        for video, reason in new:
            self._listed[video] = reason
            self.reporter.warn(f"skipped {video}: {reason}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl; a torn last line is ignored, and so is what is not an object."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            break
        if isinstance(record, dict):
            records.append(record)
    return records


def last_logged(path: Path) -> dict[str, Any]:
    """Training numbers of a metrics.jsonl, each as it was last logged: a step of which no video could be read has no loss."""
    return {key: value for record in read_metrics(path) if record["kind"] == "train" for key, value in record.items()}


def read_skipped(path: Path) -> dict[str, str]:
    """Path -> reason of a skipped.csv, {} where there is none; a torn last line is ignored."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file, ["path", "reason"])
        return {row["path"]: row["reason"] for row in rows if row["reason"] is not None and row["path"] != "path"}


def _last_byte(path: Path) -> bytes:
    if not path.exists() or not path.stat().st_size:
        return b""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()


def _read_object(path: Path, hint: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is damaged", hint)
    return found


def hash_rows(rows: Sequence) -> str:
    """Short hash of what a run was fed: file name, label and time range of every manifest row, its text and what its subtitles hold."""
    from tasks.core.data.rows import Rows

    digest, rows = hashlib.sha256(), Rows.of(rows)
    captions = _captions(rows.values("text"), rows.values("subtitles")) if rows.captioned else repeat("")
    columns = zip(*(rows.values(name) for name in ("path", "label", "start_s", "end_s")), captions, strict=False)
    while part := tuple(islice(columns, 4096)):
        told = (f"{_name(path)}\t{label}\t{start}\t{end}{caption}\n" for path, label, start, end, caption in part)
        digest.update("".join(told).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _captions(texts: Iterable[str | None], files: Iterable[str | None]) -> Iterator[str]:
    """What text and subtitles of a row add to the line that is hashed: nothing where it has neither. Each file is read once."""
    from tasks.core.data.captions import subtitles_digest

    digests: dict[str | None, str | None] = {None: None}
    for text, file in zip(texts, files, strict=True):
        if file not in digests:
            digests[file] = subtitles_digest(file)
        yield "" if text is None and file is None else f"\t{text!r}\t{digests[file]}"


def _name(path: str) -> str:
    """The last part of a path."""
    name = path.rpartition("/")[2]
    return name if name not in ("", ".") else Path(path).name


def environment() -> dict[str, Any]:
    """Versions, host, source commit and batch-queue job of this process."""
    packages = {}
    for name in ("torch", "torchvision", "accelerate", "av", "decord", "safetensors", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": {"python": platform.python_version(), **packages},
        "host": platform.node(),
        "commit": source_commit(),
        "slurm": {k: v for k, v in os.environ.items() if k in ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_NNODES")},
        "platform": sys.platform,
    }


def source_commit() -> str | None:
    """Commit of the checkout this code runs from, `-dirty` when changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
