"""What commands that go through videos one by one have in common: results as they come, a table, the exit code."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidcli.console import console

if TYPE_CHECKING:
    from tasks.core.inference.output import Output


def report(
    found: Iterable[dict[str, Any]],
    strict: bool,
    lines: Callable[[dict[str, Any]], list[dict[str, Any]]],
    noun: str | None = None,
    again: str | None = "--overwrite does them again",
) -> int:
    """Results as they come with --json, else a table at the end.

    Args:
        found: one record per video; one that could not be read has `error`, one that was finished before has `skipped`.
        strict: stop at the first video that cannot be read.
        lines: rows of the table for a record.
        noun: what the rows are, several of them, where they are counted in the last line.
        again: how to have those done anew that were done before.

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
    before = f"; {kept} were done before{f' ({again})' if again else ''}" if kept else ""
    reporter.info(f"{good} of {good + bad} videos{count}{before}")
    return 0 if not bad else 4 if good else 3


def output_to(
    out: Path | None, write: str | None, suffixes: Mapping[str, str], overwrite: bool, also: Mapping[str, str] | None = None
) -> "Output":
    """What `--out`, `--write`, `--overwrite` ask for; the folder is made.

    Args:
        out: the folder; None: nothing is written.
        write: kinds of files, separated by commas, besides the record.
        suffixes: the kinds there are -> how their files' names end.
        overwrite: do again what is there.
        also: flag that was given -> the kind of file that it asks for.

    Raises:
        UsageError: the list is empty or names an unknown kind, files are asked for without a folder, or there can be no such folder.
    """
    from tasks.core.errors import UsageError
    from tasks.core.files import make_folder
    from tasks.core.inference.output import Output, check_kinds

    kinds = [kind.strip() for kind in (write or "").split(",") if kind.strip()]
    if write is not None and not kinds:
        raise UsageError("--write names nothing", f"of {', '.join(suffixes)}")
    check_kinds(kinds, suffixes)
    flags = [*(["--write"] if write else []), *(also or {})]
    if flags and out is None:
        raise UsageError(f"{' and '.join(flags)} {'needs' if len(flags) == 1 else 'need'} a folder", "add --out FOLDER")
    if out is not None:
        make_folder(out)
    return Output(out, (*kinds, *(also or {}).values()), overwrite)


def inputs_of(sources: list[str], shard: str | None) -> list[Any]:
    """The videos of this job: what the arguments name (`-`: standard input), and of these its share."""
    from tasks.core.data.inputs import gather

    return own_share(gather(sources, sys.stdin), shard)


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
