"""Features of any number of inputs, written one after the other into a folder that training reads (`core.data.features`)."""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tasks.core.data.feature_sidecar import RECORD, check_folder
from tasks.core.data.features import write_features
from tasks.core.data.grid import Grid
from tasks.core.data.inputs import Input
from tasks.core.data.rows import Row
from tasks.core.errors import UsageError
from tasks.core.inference.loop import Advance, each_input, failure, still
from tasks.core.report.outputs import readable
from tasks.core.reporter import Reporter
from tasks.core.video.reader import VideoError


class FeatureMaker(Protocol):
    """What makes features of one kind.

    Attributes:
        method: who made them, as it was named.
        settings: recorded with every result; JSON-able.
        made_by: the encoder and what it sees, for the folder's sidecar.
        steps: stride and span of the features in seconds, None for one feature per video.
        described: the kind of features (`core.data.feature_sidecar.describe`).
        format, dtype: of the files.
        dim: channels of a feature.
    """

    method: str
    settings: dict[str, Any]
    made_by: dict[str, Any]
    steps: dict[str, float | None] | None
    described: dict[str, Any]
    format: str
    dtype: str
    dim: int

    def of_row(self, row: Row, advance: Advance) -> tuple[np.ndarray, Grid | None, np.ndarray | None, dict[str, Any]]:
        """Features of an input or a part of it.

        Args:
            row: the input.
            advance: called with the number of frames that are done.

        Returns:
            (n, dim), or (dim,) of a whole video; their grid, or None; (n, 2) presentation times that each saw, seconds, or None; facts for
            the record.

        Raises:
            VideoError: the input cannot be used.
        """


def produce(
    maker: FeatureMaker, inputs: list[Input], out: Path, overwrite: bool, reporter: Reporter, among: Sequence[Input] | None, doing: str
) -> Iterator[dict[str, Any]]:
    """Features of every input, in the order of the inputs.

    Args:
        maker: makes them.
        inputs: to do here.
        out: the folder.
        overwrite: do again what is there.
        reporter: progress.
        among: what all processes together do, where `inputs` is a share; of these alone may features of another kind be there.
        doing: what progress calls it.

    Yields:
        the record of `produce_one`; `{"video", "error"}` for an input that cannot be read; a record with `"skipped": True` where the files
        were there already, made in the same way.

    Raises:
        UsageError: the folder holds features of another kind.
    """
    redone = {source.name for source in (among or inputs)}
    overwrite = not check_folder(out, maker.described, redone) or overwrite
    yield from each_input(partial(produce_one, maker, out, overwrite, redone), inputs, 0, reporter, doing)


def produce_one(
    maker: FeatureMaker, out: Path, overwrite: bool, redone: Collection[str], source: Input, advance: Advance = still
) -> dict[str, Any]:
    """Features of one input, written.

    Args:
        maker: makes them.
        out: the folder.
        overwrite: do again what is there.
        redone: names of all inputs of the command.
        source: the input.
        advance: called with the number of frames that are done.

    Returns:
        `video`, `method`, `settings`, facts of the maker, `n` (features), `dim`, `grid` (or None), `id` (of the folder's kind of features),
        `files`.
    """
    wanted = [out / f"{source.name}{suffix}" for suffix in (RECORD, f".features.{maker.format}")]
    if not overwrite and (record := _made_before(maker, wanted, source)):
        return record
    try:
        features, grid, seen, facts = maker.of_row(source.row, advance)
    except VideoError as error:
        return failure(source, error)
    with np.errstate(over="ignore"):
        stored = features.astype(maker.dtype)
    if not np.isfinite(stored).all() and np.isfinite(features).all():
        raise UsageError(f"{source.shown}: features up to {np.abs(features).max():.3g} do not fit {maker.dtype}", "--dtype float32")
    record = {"video": readable(source.shown), "method": maker.method, "settings": maker.settings, **facts}
    files = write_features(out, source.name, stored, grid, maker.made_by, maker.format, seen, record, maker.steps, redone)
    return {**json.loads(wanted[0].read_text(encoding="utf-8")), "files": [str(path) for path in files]}


def _made_before(maker: FeatureMaker, wanted: list[Path], source: Input) -> dict[str, Any] | None:
    """The record of an input whose files are all there, younger than it and made in the same way; None where there is work to do."""
    if not all(path.is_file() for path in wanted):
        return None
    if os.path.exists(source.row.path) and min(path.stat().st_mtime for path in wanted) < os.path.getmtime(source.row.path):
        return None
    try:
        record = json.loads(wanted[0].read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or (record.get("method"), record.get("settings")) != (maker.method, maker.settings):
        return None
    return {**record, "files": [str(path) for path in wanted], "skipped": True}
