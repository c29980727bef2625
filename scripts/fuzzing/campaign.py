"""From a seed to a table: harmed files in batches, every command over each batch, and the file behind every defect."""

import csv
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing import commands, frames
from fuzzing.mutations import HARMLESS, KINDS, mutate
from fuzzing.sources import render

READER = "frames"
_ANCHORS = 4
"""Sound files beside the harmed ones in every batch: a command must go on with the rest."""
_LABELS = ("left", "right")
_PATIENCE_S = 20.0
_SEARCHES = 20
"""Runs spent on finding the files behind a command's defects in one batch."""


@dataclass
class Made:
    """A harmed file. path: where. kind: of its mutation. sound: name of what it was made from."""

    path: Path
    kind: str
    sound: str


@dataclass
class Settings:
    """What a campaign does; see `scripts/fuzz --help`."""

    seed: int = 0
    count: int = 200
    seconds: float | None = None
    batch: int = 40
    timeout_s: float = 300.0
    memory_mib: float = 6000.0
    keep: Path | None = None
    names: tuple[str, ...] = (READER, *commands.COMMANDS)


@dataclass
class Campaign:
    """Everything that was found: counts by (kind, command), defects in words, frames by what they were, memory and time by command."""

    settings: Settings
    folder: Path
    table: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    defects: list[str] = field(default_factory=list)
    frames: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    peak_mib: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    files: int = 0

    def run(self) -> "Campaign":
        """Makes and reads all batches, or as many as the time allows."""
        began = time.monotonic()
        os.environ["VID_CACHE"] = str(self.folder / "cache")
        self.sounds = render(self.folder / "sound")
        self.anchors = self._anchors()
        if {"eval classify", "extract-features", "index"} & set(self.settings.names):
            self._train_encoder()
        for first in range(0, self.settings.count, self.settings.batch):
            numbers = range(first, min(first + self.settings.batch, self.settings.count))
            if self.settings.seconds is not None and time.monotonic() - began > self.settings.seconds:
                break
            self._batch(first // self.settings.batch, [self._make(number) for number in numbers])
        return self

    def _make(self, number: int) -> Made:
        folder = self.folder / "harmed"
        folder.mkdir(exist_ok=True)
        return Made(*mutate(number, self.settings.seed, self.sounds, folder))

    def _anchors(self) -> list[Path]:
        """Sound files in a folder of their own, one per class and container, of one size."""
        folder = self.folder / "anchors"
        names = [name for name, sound in self.sounds.items() if sound.path.is_file()][: 2 * _ANCHORS]
        for place, name in enumerate(names):
            target = folder / _LABELS[place % 2] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.sounds[name].path, target)
        shutil.copytree(folder, self.folder / commands.GALLERY)  # a query must not be in its gallery
        return sorted(folder.rglob("*.*"))

    def _train_encoder(self) -> None:
        place = commands.Place(self.folder / "anchors", self.folder / "anchors", Path(), self.folder / "encoder")
        ended = commands.run(commands.COMMANDS["pretrain preload"], place, self.anchors, self.settings.timeout_s, 1e6, _QUIET)
        if ended.defects:
            raise SystemExit(f"training on sound videos alone fails: {ended.defects[0]}\n{shlex.join(ended.line)}")

    def _batch(self, number: int, made: list[Made]) -> None:
        self.files += len(made)
        before = len(self.defects)
        for name in self.settings.names:
            print(f"batch {number}, {len(made)} files: {name}", file=sys.stderr, flush=True)
            if name == READER:
                self._judge(made)
            else:
                self._command(name, made, f"{number:03d}")
        if len(self.defects) == before and not self.settings.keep:
            for one in made:
                shutil.rmtree(one.path) if one.path.is_dir() else one.path.unlink()

    # the reader, frame by frame

    def _judge(self, made: list[Made]) -> None:
        from tasks.core.video.children import DIED, NOTE, run_children

        began = time.monotonic()
        jobs = [frames.Job(one.path, self.sounds[one.sound], one.kind != "absurd_time") for one in made]
        for number, kind, what in run_children(frames.judge, jobs, 1, lambda note: _PATIENCE_S):
            if kind == NOTE:
                continue
            one = made[number]
            if kind == DIED:
                self._defect(READER, one, what)
                continue
            counts = Counter({key: what[key] for key in frames.KINDS if key in what})
            self.frames[one.kind].update(counts)
            self.frames[one.kind]["files altered"] += frames.ALTERED in counts
            told = commands.REPORTED if what.get("error") or what.get("damage") else commands.OK
            self.table[one.kind, READER][told] += 1
            if counts[frames.WRONG] or counts[frames.ELSEWHERE]:
                self._defect(READER, one, "; ".join(what["examples"]))
            if one.kind in HARMLESS and counts[frames.RIGHT] != what.get("n"):
                self._defect(READER, one, f"a sound file is not read whole: {what.get('error') or what.get('damage') or dict(counts)}")
        self.seconds[READER] += time.monotonic() - began

    # the commands

    def _command(self, name: str, made: list[Made], batch: str) -> None:
        ended = self._once(name, made, batch)
        self.seconds[name] += ended.seconds
        self.peak_mib[name] = max(self.peak_mib[name], ended.peak_mib)
        if ended.defects:
            for one, found in self._culprits(name, made, ended, batch):
                self._defect(name, one, f"{found.defects[0]}; run: {shlex.join(found.line)}")
            return
        by_path = {str(one.path): one for one in made}
        for path, told in ended.told.items():
            one = by_path[path]
            self.table[one.kind, name][told] += 1
            if told == commands.REPORTED and one.kind in HARMLESS and commands.COMMANDS[name].takes_sound:
                self._defect(name, one, f"a sound file is not taken; run: {shlex.join(ended.line)}")

    def _culprits(self, name: str, made: list[Made], ended: commands.Ended, batch: str) -> Iterator[tuple[Made | None, commands.Ended]]:
        """The files that alone (beside sound ones) show a defect; None where only all of them together do."""
        found, runs = False, 0
        groups = [made[: len(made) // 2], made[len(made) // 2 :]] if len(made) > 1 else []
        while groups and runs < _SEARCHES:
            group, runs = groups.pop(), runs + 1
            again = self._once(name, group, f"{batch}_{group[0].path.name[:4]}_{len(group)}")
            if not again.defects:
                continue
            if len(group) == 1:
                found = True
                yield group[0], again
            else:
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
        if not found:
            yield made[0] if len(made) == 1 else None, ended

    def _once(self, name: str, made: list[Made], tag: str) -> commands.Ended:
        out = self.folder / "out" / f"{tag}_{name.replace(' ', '_')}"
        shutil.rmtree(out, ignore_errors=True)
        manifest = self.folder / f"batch_{tag}.csv"
        with open(manifest, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("path", "label"))
            beside = [path for path in self.anchors if path not in {one.path for one in made}][:_ANCHORS]
            table.writerows((path, path.parent.name) for path in beside)
            table.writerows((one.path, _LABELS[place % 2]) for place, one in enumerate(made))
        place = commands.Place(manifest, self.folder / "anchors", self.folder / "encoder" / "model", out)
        files = [one.path for one in made]
        ended = commands.run(commands.COMMANDS[name], place, files, self.settings.timeout_s, self.settings.memory_mib, _QUIET)
        if not ended.defects and not self.settings.keep:
            shutil.rmtree(out, ignore_errors=True)
        return ended

    def _defect(self, command: str, one: Made | None, what: str) -> None:
        if one is not None:
            self.table[one.kind, command]["defect"] += 1
        self.defects.append(f"{command}, {one.path if one else 'a whole batch'}: {what}")


_QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "VID_DEBUG": ""}


def campaign(settings: Settings) -> Campaign:
    """Runs one; its files lie in `settings.keep`, else in a temporary folder that stays where there were defects."""
    folder = settings.keep or Path(tempfile.mkdtemp(prefix="vid-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    done = Campaign(settings, folder.absolute()).run()
    if not done.defects and not settings.keep:
        shutil.rmtree(folder)
    return done


def shown(done: Campaign) -> str:
    """The table, what the frames were, and the defects, as text."""
    names = done.settings.names
    lines = [f"{done.files} harmed files, seed {done.settings.seed}; each cell: files taken / reported / with a defect", ""]
    width = max(map(len, KINDS)) + 2
    heads = [f"{place}:{name}" for place, name in enumerate(names, 1)]
    lines += ["  ".join(heads), "", " " * width + "".join(str(place).rjust(10) for place in range(1, len(names) + 1))]
    for kind in KINDS:
        cells = [done.table.get((kind, name), Counter()) for name in names]
        if any(cells):
            counts = (f"{c[commands.OK]}/{c[commands.REPORTED]}" + (f"/{c['defect']}!" if c["defect"] else "") for c in cells)
            lines.append(kind.ljust(width) + "".join(text.rjust(10) for text in counts))
    lines.append("seconds".ljust(width) + "".join(f"{done.seconds[name]:.0f}".rjust(10) for name in names))
    lines.append(
        "peak MiB".ljust(width) + "".join((f"{done.peak_mib[name]:.0f}" if name in done.peak_mib else "-").rjust(10) for name in names)
    )
    if done.frames:
        lines += ["", "frames delivered by the reader: " + ", ".join(frames.KINDS) + ", files altered"]
        for kind, counts in done.frames.items():
            lines.append(kind.ljust(width) + "".join(str(counts[key]).rjust(10) for key in (*frames.KINDS, "files altered")))
        lines.append("altered: the file's own bits decode there to another picture without any sign of damage; no reader can know")
    lines += ["", f"{len(done.defects)} defects" + (f"; files kept in {done.folder}" if done.defects or done.settings.keep else "")]
    return "\n".join(lines + done.defects)
