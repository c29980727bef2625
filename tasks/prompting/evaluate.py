"""`vid eval classify` of prompted models, and of image-text models without training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tasks.core.data.labels import labelled
from tasks.core.data.manifest import read_sources
from tasks.core.data.rows import Rows
from tasks.core.engine.exchange import agree
from tasks.core.engine.run import hash_rows, source_commit
from tasks.core.errors import InputError, UsageError
from tasks.core.files import write_json
from tasks.core.inference.output import RECORD, Output
from tasks.core.report.probabilities import write_probabilities
from tasks.core.reporter import Reporter
from tasks.core.signals import StopFlag, exit_for
from tasks.core.world import join, world
from tasks.prompting.config import EvalConfig, PromptedConfig
from tasks.prompting.data import check_stream
from tasks.prompting.method import zero_shot_features
from tasks.prompting.metrics import accuracy
from tasks.prompting.names import words_of
from tasks.prompting.opened import features_of, open_model
from tasks.prompting.predict import Scorer, Tested, prompted_scorer, score_rows, text_of, zero_shot_scorer

SUFFIXES = {RECORD: ".json", "csv": ".csv"}
"""Kind of file -> what follows the protocol in its name."""


def run(config: EvalConfig, reporter: Reporter, output: Output | None = None) -> dict[str, Any]:
    """One JSON-able object: `top1`, `top5`, `avg`, `mean_class` in percent, `n`, `n_skipped`, `protocol`, and where the numbers come from.

    Args:
        config: what is tested, and how.
        reporter: is told what was skipped.
        output: files to write (`SUFFIXES`), named after the protocol; None: none.

    Raises:
        UsageError, InputError: nothing can be tested.
        Preempted, Interrupted: stopped by a signal.
    """
    if not config.data.val:
        raise UsageError("no videos to test on", "add --data PATH (a manifest or a folder)")
    check_stream(config.data)
    join()
    rows = read_sources(config.data.val, "val")
    with testing() as (device, stop):
        facts, labels, found = _tested(config, rows, device, stop, reporter)
    tell_skipped(found.skipped, config.strict, reporter)
    probabilities = found.outputs[config.protocol]
    result = {
        **accuracy(probabilities, found.labels),
        "n": len(found.labels),
        "n_skipped": len(found.skipped),
        "classes": len(labels),
        "protocol": config.protocol,
        "samples": config.test.samples,
        **facts,
        "data_hash": hash_rows(rows),
        "commit": source_commit(),
        "model": config.model,
    }
    if world().main:
        if config.save_scores:
            write_probabilities(Path(config.save_scores), found.paths, found.labels, probabilities, labels)
        if output is not None and output.folder is not None:
            files = output.files(SUFFIXES, config.protocol)
            if "csv" in files:
                write_probabilities(files["csv"], found.paths, found.labels, probabilities, labels)
            result["files"] = [str(file) for file in files.values()]
            write_json(files[RECORD], result)
    return result


@contextmanager
def testing() -> Iterator[tuple[torch.device, Callable[[], None]]]:
    """The device of a test, and what is called after every batch, equally often by all processes; a signal makes it raise."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with StopFlag() as flag:

        def stop() -> None:
            if number := agree(flag.received, device=device)[0]:
                raise exit_for(number)("evaluation stopped by a signal; nothing was written", "run the same command again")

        yield device, stop


def tell_skipped(skipped: Sequence[tuple[str, str]], strict: bool, reporter: Reporter) -> None:
    """Says which videos could not be read, and why; InputError where that is not allowed."""
    for path, reason in skipped:
        reporter.warn(f"skipped {path}: {reason}")
    if skipped and strict:
        raise InputError(f"{len(skipped)} videos could not be read, the first is {skipped[0][0]}: {skipped[0][1]}")


def _tested(
    config: EvalConfig, rows: Rows, device: torch.device, stop: Callable[[], None], reporter: Reporter
) -> tuple[dict[str, Any], list[str], Tested]:
    """(facts for the result, classes, probabilities)"""
    opened = open_model(config, device, config.protocol == "prompted")
    model, saved, tower = opened.model, opened.saved, opened.tower
    sampled = PromptedConfig(frames=config.frames) if model is None else model.config
    own = list(saved.get("labels", ()))
    labels = own if own and config.classes == "model" else labelled(rows, "test")
    labelled(rows, "test", labels)
    names = words_of(labels, config.names, dict(zip(own, saved.get("names", ()), strict=False)))
    if config.protocol == "prompted":
        scorer: Scorer = prompted_scorer(model, text_of(model, tower, names, reporter))
        facts = {"prompts": sampled.prompts.shown(), "temporal_layers": sampled.temporal.layers}
    else:
        scorer = zero_shot_scorer(zero_shot_features(tower, names, config.template, reporter), opened.temperature)
        facts = {"template": config.template}
    folder = features_of(opened, config, rows, reporter)
    scorers = {config.protocol: scorer}
    return facts, labels, score_rows(rows, labels, config.data, folder, sampled, config.test, scorers, device, stop, reporter)
