"""Output, progress, --json: the only place that prints. stdout is data, stderr is for people."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from vidcli.format import aligned, duration, metrics_text, rate, strict

RED, YELLOW = "\x1b[31m", "\x1b[33m"
PLAIN_INTERVAL_S = 30.0
FIRST_LINE_AFTER_S = 2.0


class Console:
    """One per process, decided once by the flags of the command; implements `tasks.core.reporter.Reporter`.

    Attributes:
        json: results are JSON Lines instead of tables.
        quiet: no info and no progress; warnings and errors stay.
        verbose: details are shown too.
        debug: tracebacks are shown.
        muted: a worker that is not the first one: says nothing at all.
    """

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        self.verbose = False
        self.debug = os.environ.get("VID_DEBUG", "") not in ("", "0")
        self.muted = os.environ.get("RANK", "0") not in ("", "0")
        self._unheard = False
        self._log: TextIO | None = None
        self._live: Any = None

    # stderr and log.txt

    def info(self, text: str) -> None:
        """Say something on stderr; silent with -q."""
        self._say(text, show=not self.quiet)

    def detail(self, text: str) -> None:
        """Say something that is shown with -v only."""
        if self.verbose:
            self._say(text, show=not self.quiet)

    def warn(self, text: str) -> None:
        """Say something that is shown even with -q."""
        self._say(text, "warning: ", "\x1b[33m")

    def error(self, message: str, hint: str | None = None) -> None:
        """One or two lines: what is wrong and how to mend it. A muted worker says it too, with its rank."""
        if self.muted:
            self._write(f"[rank {os.environ['RANK']}] error: {message}\n")
            return
        self._say(message, "error: ", "\x1b[31m")
        if hint:
            self._say(hint, "hint: ", "\x1b[36m")

    def attach_log(self, path: Path) -> None:
        """From here on everything said also goes to `path`, with the time of day; a log attached before is closed."""
        self.detach_log()
        if not self.muted:
            self._log = path.open("a", encoding="utf-8", buffering=1)

    def detach_log(self) -> None:
        """Close the log file, if one is attached."""
        if self._log is not None:
            with suppress(OSError):
                self._log.close()
            self._log = None

    def progress(self, description: str, total: int | None, unit: str = "it", start: int = 0) -> AbstractContextManager[Any]:
        """A bar with rate and ETA on a terminal; elsewhere a line soon and then one every half minute."""
        if self._live is None and not self.quiet and not self.muted and _is_terminal(sys.stderr):
            return self._bar(description, total, unit, start)
        return _Lines(self, description, total, unit, start)

    # results: stdout

    def result(self, row: Mapping[str, Any], title: str | None = None) -> None:
        """One result: a JSON object with --json, else its keys and values as two columns."""
        if self.json:
            self.emit(row)
        else:
            self.table([{"": key, title or " ": value} for key, value in row.items()])

    def emit(self, row: Mapping[str, Any]) -> None:
        """One JSON object on a line of its own, flushed."""
        self.text(json.dumps(strict(row), ensure_ascii=False, allow_nan=False))

    def table(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, colours: Sequence[str | None] | None = None
    ) -> None:
        """Rows as JSON Lines with --json, else as aligned columns, which fit a terminal; `colours`, one for each row, are for one only."""
        if self.json:
            for row in rows:
                self.emit(row)
        elif rows:
            terminal = _is_terminal(sys.stdout)
            width = shutil.get_terminal_size().columns if terminal else None
            self.text(aligned(rows, list(columns or rows[0]), width, colours if terminal and "NO_COLOR" not in os.environ else None))

    def text(self, text: str) -> None:
        """Text on stdout, flushed. A reader that has gone away (`| head`) ends the command quietly."""
        if self.muted:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            hush_stdout()
            raise SystemExit(141) from None

    def config(self, values: Mapping[str, Any]) -> None:
        """A configuration: YAML that is a valid --config, or one JSON object with --json."""
        if self.json:
            self.emit(values)
        else:
            import yaml

            self.yaml(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))

    def yaml(self, text: str) -> None:
        """YAML on stdout, coloured on a terminal."""
        if not self.muted and _is_terminal(sys.stdout):
            from rich.console import Console as Rich
            from rich.syntax import Syntax

            Rich().print(Syntax(text.rstrip("\n"), "yaml", background_color="default", word_wrap=True))
        else:
            self.text(text.rstrip("\n"))

    # below

    def _say(self, text: str, prefix: str = "", color: str = "", show: bool = True) -> None:
        if self.muted:
            return
        self._note(f"{prefix}{text}")
        if not show:
            return
        if prefix and color and _is_terminal(sys.stderr) and "NO_COLOR" not in os.environ:
            prefix = f"{color}{prefix}\x1b[0m"
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(f"{prefix}{text}"))
            return
        self._write(f"{prefix}{text}\n")

    def _write(self, text: str) -> None:
        """On stderr, until nobody listens any more or the disk that it goes to is full; stdout and the log go on."""
        if self._unheard:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._unheard = True

    def _note(self, text: str) -> None:
        """Into the log file; one on a disk that is full or gone is done without, the terminal still hears everything."""
        if self._log is None:
            return
        try:
            self._log.write("".join(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in text.splitlines()))
        except OSError:
            self.detach_log()

    @contextmanager
    def _bar(self, description: str, total: int | None, unit: str, start: int) -> Iterator["_Bar"]:
        from rich.console import Console as Rich
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[metrics]}"),
        ]
        with Progress(*columns, console=Rich(stderr=True), transient=True) as live:
            self._live = live
            try:
                task = live.add_task(description, total=total, completed=start, rate="", left="", metrics="")
                yield _Bar(live, task, total, unit, start)
            finally:
                self._live = None


class _Bar:
    """A rich progress bar."""

    def __init__(self, live: Any, task: Any, total: int | None, unit: str, start: int):
        self._live, self._task, self._total, self._unit = live, task, total, unit
        self._start, self._count, self._began = start, start, time.monotonic()

    def advance(self, n: int = 1, **metrics: float) -> None:
        self._count += n
        done, elapsed = self._count - self._start, time.monotonic() - self._began
        fields = {"rate": rate(done, elapsed, self._unit)}
        if self._total and done:  # rich's own estimate begins anew with every change of the total
            fields["left"] = f"ETA {duration(elapsed / done * max(0, self._total - self._count))}"
        if metrics:
            fields["metrics"] = metrics_text(metrics)
        self._live.update(self._task, advance=n, **fields)

    def expect(self, total: int, told: str = "") -> None:
        if total != self._total:
            self._total = total
            self._live.update(self._task, total=total)
        self._live.update(self._task, metrics=told)


class _Lines:
    """Progress as plain lines: the first soon, then one every half minute, and one at the end."""

    def __init__(self, console: Console, description: str, total: int | None, unit: str, start: int):
        self._console, self._description, self._total, self._unit = console, description, total, unit
        self._start = self._count = start
        self._latest: dict[str, float] = {}
        self._told = ""

    def __enter__(self) -> "_Lines":
        self._began = time.monotonic()
        self._next = self._began + FIRST_LINE_AFTER_S
        self._said = -1
        return self

    def __exit__(self, *_: object) -> None:
        if self._count not in (self._said, self._start):
            self._line(time.monotonic())

    def advance(self, n: int = 1, **metrics: float) -> None:
        self._count += n
        self._latest.update(metrics)
        now = time.monotonic()
        if now >= self._next:
            self._line(now)
            self._next = now + PLAIN_INTERVAL_S

    def expect(self, total: int, told: str = "") -> None:
        self._total, self._told = total, told

    def _line(self, now: float) -> None:
        self._said = self._count
        elapsed = now - self._began
        done = self._count - self._start
        parts = [f"{self._count}/{self._total} {self._unit}" if self._total else f"{self._count} {self._unit}"]
        parts.append(rate(done, elapsed, self._unit))
        if self._total and done and self._count < self._total:
            parts.append(f"ETA {duration(elapsed / done * (self._total - self._count))}")
        else:
            parts.append(f"after {duration(elapsed)}")
        parts += [self._told, metrics_text(self._latest)]
        self._console.info(f"{self._description}: " + ", ".join(part for part in parts if part))


def hush_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush into a closed pipe is silent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


_console: Console | None = None


def console() -> Console:
    """The console of this process."""
    global _console
    if _console is None:
        _console = Console()
    return _console


def reset() -> Console:
    """A fresh console: every call of `main` starts with one."""
    global _console
    if _console is not None:
        _console.detach_log()
    _console = Console()
    return _console
