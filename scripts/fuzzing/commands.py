"""The commands that read videos, run as a user runs them, over a folder of harmed and sound files; and what is wrong with how they end."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.sources import REPOSITORY

OK, REPORTED = "ok", "reported"
GALLERY = "gallery"
"""Folder beside that of the sound videos, with copies of them."""
ADDRESS_SPACE = 24 << 30
"""Bytes that no process may map: torch maps about 8 GiB and uses a tenth of it."""
_SIGNS = ("Traceback (most recent call last)", "bug:", "Segmentation fault", "core dumped", "Exception ignored", "MemoryError")
_LINES = "--json", "--workers", "1"
_TOY = ("--epochs", "1", "--batch-size", "8", "--set", "data.preload=false", "--workers", "1")


@dataclass(frozen=True)
class Place:
    """Where a command runs. manifest: the videos, with a label each. sound: a folder of sound ones. model: an encoder. out: free to use."""

    manifest: Path
    sound: Path
    model: Path
    out: Path


@dataclass(frozen=True)
class Command:
    """A command line. told: where it names the files it reports. codes: how it may end. takes_sound: and takes sound files."""

    line: Callable[[Place], list[str]]
    told: str = "json"
    codes: tuple[int, ...] = (0, 4)
    takes_sound: bool = True


def _train(preset: str, *more: str, verb: str = "pretrain", toy: tuple[str, ...] = _TOY) -> Command:
    def line(place: Place) -> list[str]:
        data = ["--data", str(place.manifest), *(["--val", str(place.manifest)] if "--val" in more else [])]
        return [verb, "--preset", preset, *data, "--out", str(place.out), *toy, *(part for part in more if part != "--val")]

    return Command(line, "skipped", (0,))


def _paint(kind: str) -> Command:
    how = ("--spatial", kind, "--masks", "random", "--temporal", "none", *_LINES)
    return Command(lambda place: ["gen-pseudo", str(place.manifest), "--out", str(place.out), *how])


COMMANDS: dict[str, Command] = {
    "data index": Command(lambda p: ["data", "index", str(p.manifest), "-o", str(p.out / "list.csv")], "nothing", (0,)),
    "data check": Command(lambda p: ["data", "check", str(p.manifest), "--timeout", "60", *_LINES], takes_sound=False),  # copies
    "detect-boundaries": Command(
        lambda p: ["detect-boundaries", str(p.manifest), "--out", str(p.out), "--write", "json,csv,edl,html", "--save-scores", *_LINES]
    ),
    "detect-anomalies": Command(
        lambda p: ["detect-anomalies", str(p.manifest), "--set", "first_part=0.9", *_LINES], codes=(0, 3, 4), takes_sound=False
    ),  # two seconds may be too little to learn from
    "anomalies of sound": Command(
        lambda p: [
            *("detect-anomalies", str(p.manifest), "--normal", str(p.sound), "--out", str(p.out), "--write", "json,csv,html,mp4"),
            *_LINES,
        ]
    ),
    "anomalies by harmed": Command(lambda p: ["detect-anomalies", str(p.sound), "--normal", str(p.manifest), *_LINES], "stderr"),
    **{f"gen-pseudo {kind}": _paint(kind) for kind in ("telea", "patch")},
    "pretrain masked": _train("masked/tats-tiny"),
    "pretrain preload": _train("masked/tats-tiny", toy=("--epochs", "1", "--batch-size", "8", "--workers", "0")),
    "pretrain boundaries": _train("boundaries/cvclr-tiny"),
    "pretrain anomalies": _train("anomalies/tiny", "--set", "parts=[appearance]", "--max-steps", "5"),
    "pretrain pseudo": _train("pseudo/ldm-inpaint-tiny", "--set", "data.repeats=1", "--set", "data.short_side=64"),
    "finetune classify": _train("classify/tiny-scratch", "--val", verb="finetune"),
    "extract-features": Command(
        lambda p: ["extract-features", str(p.manifest), "--model", str(p.model), "--out", str(p.out), "--clips", "2", "--json"]
    ),
    "index": Command(lambda p: ["index", str(p.manifest), "--model", str(p.model), "--out", str(p.out / "index"), "--json"]),
    "eval classify": Command(
        lambda p: [
            *("eval", "classify", "--model", str(p.model), "--protocol", "knn", "--data", str(p.manifest)),
            *("--gallery", str(p.sound.with_name(GALLERY)), "--clips", "1", "--crops", "1", *_LINES),
        ],
        "stderr",
    ),
}


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        line: without the interpreter.
        defects: in words; none: it did as promised.
        told: file -> OK or REPORTED.
        seconds, peak_mib: wall clock, and most resident memory of all its processes together.
    """

    line: list[str]
    defects: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_mib: float = 0.0


def run(command: Command, place: Place, files: list[Path], timeout_s: float, memory_mib: float, environment: dict[str, str]) -> Ended:
    """Runs a command over `files`, which `place.manifest` lists beside sound ones."""
    place.out.parent.mkdir(parents=True, exist_ok=True)
    ended = Ended(["vid", *command.line(place)])
    said, shown = (place.out.with_name(f"{place.out.name}.{stream}") for stream in ("stderr", "stdout"))
    began = time.monotonic()
    with open(said, "wb") as err, open(shown, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vidcli", *ended.line[1:]],
            stdout=out,
            stderr=err,
            env={**os.environ, **environment},
            cwd=REPOSITORY,
            start_new_session=True,
            preexec_fn=_limit,
        )
        why = _watch(process, timeout_s, memory_mib, ended)
    ended.seconds = time.monotonic() - began
    stderr, stdout = said.read_text(errors="replace"), shown.read_text(errors="replace")
    if why:
        ended.defects.append(why)
    elif process.returncode not in command.codes:
        last = stderr.strip().splitlines()[-2:]
        ended.defects.append(f"exit code {process.returncode}: {' / '.join(last)[:300]}")
    ended.defects += [f"'{sign}' on stderr" for sign in _SIGNS if sign in stderr]
    if not ended.defects:
        _listen(command, place, files, stdout, stderr, ended)
    return ended


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch(process: subprocess.Popen, timeout_s: float, memory_mib: float, ended: Ended) -> str | None:
    """Waits for the end; kills the whole session where it takes too long or too much memory, and says so."""
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                process.wait(0.2)
                return None
            except subprocess.TimeoutExpired:
                ended.peak_mib = max(ended.peak_mib, _resident_mib(process.pid))
            if ended.peak_mib > memory_mib:
                return f"{ended.peak_mib:.0f} MiB of memory"
            if time.monotonic() > deadline:
                return f"no end after {timeout_s:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _resident_mib(pid: int) -> float:
    """Resident memory of a process and all its descendants; what they share is counted once per process."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for one in family:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total / 2**20


def _listen(command: Command, place: Place, files: list[Path], stdout: str, stderr: str, ended: Ended) -> None:
    """What was said of each file; silence about one is a defect where every one has a record."""
    names = [str(file) for file in files]
    if command.told == "json":
        records = {}
        for line in filter(None, stdout.splitlines()):
            try:
                record = json.loads(line)
                name = record.get("video") or record["path"]
            except (ValueError, AttributeError, KeyError):
                ended.defects.append(f"stdout holds what is not a record of a video: {line[:100]}")
                return
            records[str((REPOSITORY / name).absolute())] = record
        for name in names:
            record = records.get(name)
            if record is None:
                ended.defects.append(f"nothing was said of {name}")
            else:
                bad = record.get("error") or record.get("damage") or record.get("problems") or record.get("ok") is False
                ended.told[name] = REPORTED if bad else OK
        return
    reported = stderr
    if command.told == "skipped" and (place.out / "skipped.csv").exists():
        with open(place.out / "skipped.csv", newline="", encoding="utf-8") as table:
            reported = "\n".join(row["path"] for row in csv.DictReader(table))
    ended.told = {name: REPORTED if command.told != "nothing" and name in reported else OK for name in names}
