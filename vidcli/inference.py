"""What commands that go through videos one by one have in common: results as they come, a table, the exit code."""

import os
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from vidcli.console import console


def report(
    found: Iterable[dict[str, Any]], strict: bool, lines: Callable[[dict[str, Any]], list[dict[str, Any]]], noun: str | None = None
) -> int:
    """Results as they come with --json, else a table at the end.

    Args:
        found: one record per video; one that could not be read has `error`, one that was finished before has `skipped`.
        strict: stop at the first video that cannot be read. lines: rows of the table for a record. noun: what the rows are, several
            of them, where they are counted in the last line.

    Returns:
        the exit code: 0, or 4 where some videos could not be read, 3 where none could.
    """
    from tasks.core.errors import InputError

    reporter = console()
    rows, good, bad, kept = [], 0, 0, 0
    for record in found:
        if "error" in record:
            bad += 1
            if strict:
                raise InputError(f"{record['video']}: {record['error']}", "without --strict the others are still done")
            reporter.warn(f"{record['video']}: {record['error']}")
        else:
            good += 1
            kept += record.get("skipped", False)
            if record.get("damage"):
                reporter.warn(f"{record['video']}: {record['damage']}")
            rows += lines(record)
        if reporter.json:
            reporter.emit(record)
    if not reporter.json:
        reporter.table(rows)
    count = f", {len(rows)} {noun}" if noun and not reporter.json else ""
    reporter.info(f"{good} of {good + bad} videos{count}" + (f"; {kept} were done before (--overwrite does them again)" if kept else ""))
    return 0 if not bad else 4 if good else 3


def kinds_to_write(write: str | None, suffixes: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds of files that `--write LIST` names, after the JSON record, which tells what the others were made with.

    Args:
        suffixes: the kinds there are -> how their files' names end.

    Raises:
        UsageError: the list is empty, or names an unknown kind.
    """
    from tasks.core.errors import UsageError
    from tasks.core.report.outputs import named

    kinds = [kind.strip() for kind in (write or "").split(",") if kind.strip()]
    if write is not None and not kinds:
        raise UsageError("--write names nothing", f"of {', '.join(suffixes)}")
    found = tuple(dict.fromkeys(("json", *kinds)))
    named(Path(), "", found, suffixes)
    return found


def own_share(inputs: list[Any], given: str | None, key: Callable[[Any], str] = attrgetter("name")) -> list[Any]:
    """The inputs of this job: the share `K/N`, else that of its place in a SLURM array, else all; says which.

    Args:
        key: unique, and the same on every machine; by default the name of an input's outputs, which does not change with where it lies.
    """
    from tasks.core.shard import chosen

    return chosen(given).own(inputs, key, console())


def short(files: list[str]) -> str:
    """Files of one video in a cell of a table."""
    return files[0] if len(files) == 1 else os.path.commonprefix(files) + "*"  # noqa: RUF071 (names begin alike, in one folder)
