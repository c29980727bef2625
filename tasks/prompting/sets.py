"""The training and the validation set of a method, checked."""

from tasks.core.data.labels import labelled
from tasks.core.data.manifest import read_sources
from tasks.core.data.rows import Rows
from tasks.core.errors import InputError, UsageError
from tasks.prompting.config import FinetuneConfig
from tasks.prompting.events import check_events
from tasks.prompting.sentences import captioned


def read_sets(config: FinetuneConfig) -> tuple[Rows, Rows, list[str]]:
    """(training rows, validation rows, labels, none for retrieval); UsageError or InputError where they cannot be learned from."""
    if not config.data.train:
        needed = {"recognition": "a label for each video", "localization": "label, start and end of each event"}
        raise UsageError("no training videos given", f"add --data MANIFEST, with {needed.get(config.method, 'a text for each video')}")
    rows = read_sources(config.data.train, "train")
    val = read_sources(config.data.val, "val") if config.data.val else Rows.of([])
    if config.method == "retrieval":
        for given, what in ((rows, "training"), (val, "validation")):
            if len(given):
                captioned(given, what)
        return rows, val, []
    events = val
    if config.method == "localization":
        rows, events = check_events(rows, "training"), check_events(val, "validation") if len(val) else val
        val = events if config.trials else val  # trials draw classes; elsewhere videos without events count in mAP
    labels = labelled(rows, "training")
    if len(labels) < 2:
        raise InputError(f"all training videos are of one class, {labels[0]!r:.60}", "there is nothing to tell apart: add videos of others")
    if len(events):
        labelled(events, "validation", None if config.trials and config.trials.kind == "open" else labels)
    return rows, val, labels
