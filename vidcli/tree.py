"""The Typer tree, one line per command. Only the command that is called is imported: the others are names with a line of help."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from vidcli import __version__, options

STYLE: dict[str, Any] = {"rich_markup_mode": None, "no_args_is_help": True}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

GROUPS = {
    "eval": "Measure a model on labelled videos.",
    "presets": "List, show, copy, fetch and share presets.",
    "runs": "List and show run folders.",
    "config": "See what a configuration resolves to.",
    "data": "Write and check manifests of videos, and their optical flow.",
}
"""Commands that have commands of their own."""

COMMANDS = {
    "pretrain": "Learn an encoder from videos without labels.",
    "finetune": "Train on labelled videos, pretrained or from scratch.",
    "classify": "Name what videos show, by a classifier that vid finetune trained.",
    "detect-boundaries": "Find where things change: event boundaries of any video, shot cuts among them.",
    "gen-pseudo": "Make pseudo-anomalies of normal videos: inpainted regions, and mixed patches of optical flow.",
    "detect-anomalies": "Find what is out of the ordinary in footage of a fixed camera: a score per frame, and intervals.",
    "detect-events": "Find what happens when, in picture and sound: events with class, start, end and score.",
    "align": "Put sentences where they belong in a video, and tell which do not belong there.",
    "motion-boxes": "Find where things move: one box per frame, without a detector and however the camera moves (MOFO).",
    "extract-features": "Write what a pretrained encoder makes of videos: a folder of features to train on, or arrays for other programs.",
    "index": "Put videos into an index that vid search finds moments in: by a sentence, by an example, by what is said.",
    "search": "Find the moments of indexed videos that answer a sentence, look like an example, or in which something is said.",
    "eval alignment": "Score sentences that were aligned with videos, as the public evaluators count.",
    "eval anomalies": "Score anomaly detection by frames: the area under the ROC curve, as the field measures it.",
    "eval boundaries": "Score predicted event boundaries: F1 at relative distances 0.05 to 0.50, as the public Kinetics-GEBD scorer does.",
    "eval classify": "Test a classifier, or an encoder's frozen features.",
    "eval events": "Score detected events: mean average precision over thresholds of temporal IoU, as the public evaluators count.",
    "eval retrieval": "Test how well sentences find their videos, and videos their sentences.",
    "presets list": "List the built-in presets.",
    "presets show": "Print a preset: the file with its comments (command, hardware, cost, result), and the values that it inherits.",
    "presets cp": "Copy a preset to edit it; use the copy with --preset FILE.",
    "presets pull": "Fetch presets, and the models they name, into the local cache.",
    "presets push": "Put a preset on the Hugging Face Hub, with the files beside it that it extends.",
    "runs list": "List run folders: state, step, time left, last metric, size.",
    "runs show": "Show where a run stands and how to continue it.",
    "slurm": "Print an sbatch file for a vid command, which requeues itself until the command is done.",
    "config show": "Print what preset, files and --set resolve to: a valid --config, or with --origin a table.",
    "data index": "Write a manifest of the videos below a folder; folder names become labels where there is one folder per class.",
    "data import": "Turn published annotations into a manifest with a row for each segment, or event boundaries into a truth file (JSON).",
    "data check": "Read every video once and report what is unusable and why.",
    "data flow": "Compute the optical flow of videos once and keep it, for training on two streams or on flow (data.flow.folder).",
    "convert": "Make a model folder from published weights, or from a model folder something that other programs open.",
    "publish": "Put a trained model on the Hugging Face Hub.",
    "doctor": "Show what this machine has, and what is missing for what.",
    "demo": "See it work: everything from videos to a report, in minutes.",
}
"""Command -> the first paragraph of its help; the module in `vidcli.commands` has its name, with `_` for what is no letter."""


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"vid {__version__}\n")
        raise typer.Exit


def vid(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
    debug: options.Debug = False,
) -> None:
    """Learn from video with little or no annotation, and use what was learned."""


def tree(words: Sequence[str]) -> typer.Typer:
    """`vid` with all its commands, of which the one that is called has its options; all of them have, where a shell completes words.

    Args:
        words: the arguments of the process.
    """
    named = [word for word in words if not word.startswith("-")]
    called = next((name for name in (" ".join(named[:2]), *named[:1]) if name in COMMANDS), None)
    app = typer.Typer(**STYLE, context_settings=SETTINGS, pretty_exceptions_enable=False)
    app.callback()(vid)
    parts = {"": app}
    for name, summary in COMMANDS.items():
        group, _, own = name.rpartition(" ")
        if group not in parts:
            parts[group] = typer.Typer(**STYLE, help=GROUPS[group])
            app.add_typer(parts[group], name=group)
        whole = name == called or "_VID_COMPLETE" in os.environ
        (_add if whole else _mention)(parts[group], own, name, summary)
    return app


def _add(app: typer.Typer, own: str, name: str, summary: str) -> None:
    module = import_module(f"vidcli.commands.{name.replace(' ', '_').replace('-', '_')}")
    told = {"help": getattr(module, "HELP", None), "context_settings": getattr(module, "CONTEXT", None)}
    app.command(own, epilog=module.EXAMPLES, **told)(module.command)


def _mention(app: typer.Typer, own: str, name: str, summary: str) -> None:
    def mentioned() -> None:
        """Never called."""

    app.command(own, help=summary)(mentioned)
