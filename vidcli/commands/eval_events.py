"""`vid eval events`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    "vid eval events --predictions found/ --ground-truth annotations.json",
    "vid eval events --predictions results.json --ground-truth unav100_annotations.json --json",
    "vid eval events --predictions results.json --ground-truth thumos14.json --protocol thumos",
    "vid eval events --predictions nouns.json --ground-truth EPIC_100_validation.csv --protocol epic --label noun",
    "vid eval events --predictions proposals.csv --ground-truth activity_net.v1-3.min.json --protocol proposals",
)


class Name(StrEnum):
    """Names of `tasks.core.metrics.events.PROTOCOLS`, and of `proposals.PROPOSALS`, which need numpy."""

    unav = "unav"
    thumos = "thumos"
    activitynet = "activitynet"
    epic = "epic"
    proposals = "proposals"


class Label(StrEnum):
    """What is the class in EPIC-KITCHENS-100."""

    verb = "verb"
    noun = "noun"
    action = "action"


Predictions = typer.Option(metavar="PATH", help='Results as {"results": {VIDEO: [...]}}, or what vid detect-events wrote: file or folder.')
Truth = typer.Option(metavar="FILE", help="Annotations (JSON of ActivityNet, UnAV-100, THUMOS14; CSV of EPIC-KITCHENS-100) or a manifest.")
Of = typer.Option(
    help="Mean over tIoU: unav .1:.1:.9, thumos .3:.1:.7, activitynet .5:.05:.95, epic .1:.1:.5; proposals: recall without classes."
)
Subset = typer.Option(metavar="NAME", help="Videos to measure on [default: test (unav, thumos) or validation, where the file has it].")


def command(
    predictions: Annotated[Path, Predictions],
    ground_truth: Annotated[Path, Truth],
    protocol: Annotated[Name, Of] = Name.unav,
    subset: Annotated[str | None, Subset] = None,
    label: Annotated[Label | None, typer.Option(help="Class in EPIC-KITCHENS-100 [default: verb].")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the result to this JSON file too.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Score detected events: mean average precision over thresholds of temporal IoU, as the public evaluators count.

    Times are seconds from the start of the video. Results are fractions; the table shows them in percent, with the columns that papers
    print and the mean over all thresholds of the protocol."""
    from tasks.core.files import make_folder, write_json
    from tasks.core.metrics.event_files import run

    reporter = console()
    if out:
        make_folder(out.parent)
    result = run(predictions, ground_truth, reporter, protocol.value, subset, label and label.value)
    if out:
        write_json(out, result)
    if reporter.json:
        reporter.emit(result)
    else:
        reporter.table(_recall(result) if protocol is Name.proposals else _precision(result))
        reporter.text("")
        reporter.result({name: value for name, value in result.items() if not isinstance(value, dict | list)})
    return 0


def _precision(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per class, the worst last, and their mean; percent."""
    from tasks.core.metrics.events import PROTOCOLS

    shown = PROTOCOLS[result["protocol"]].shown
    classes = sorted(result["per_class"].items(), key=lambda entry: -entry[1]["average"])
    rows = [
        {
            "class": _short(name),
            "events": entry["n_events"],
            "found": entry["n_predictions"],
            **{key: _percent(entry["ap"][key]) for key in shown},
            "avg": _percent(entry["average"]),
        }
        for name, entry in classes
    ]
    total = {"class": f"mAP of {result['n_classes']} classes", "events": result["n_events"], "found": result["n_predictions"]}
    return [*rows, {**total, **{key: _percent(result["map"][key]) for key in shown}, "avg": _percent(result["average_map"])}]


def _recall(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**{f"AR@{n}": _percent(value) for n, value in result["average_recall"].items()}, "AUC": _percent(result["auc"])}]


def _percent(value: float) -> str:
    return f"{100 * value:5.1f}"


def _short(name: str, width: int = 20) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
