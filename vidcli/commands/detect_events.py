"""`vid detect-events`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, report, short

EXAMPLES = options.examples(
    "vid detect-events street.mp4 --model runs/finetune-av-events",
    "vid detect-events videos/ --model hf://org/localiser --out found --write json,csv,srt,html",
    "vid detect-events videos/ --model runs/mine --out found --min-score 0.3 --top 20",
    "vid detect-events test.csv --model runs/mine --features visual=i3d/ --features audio=vggish/ --out found --write anet",
    "vid detect-events lecture.mp4 --model runs/mine --proposals --json",
    'vid detect-events match.mp4 --model hf://openai/clip-vit-base-patch16 --classes "a goal,a foul" --from-proposals found/',
    "vid detect-events test.csv --model runs/prompted --from-proposals proposals.json --out found --write anet",
)

SHARED = {  # parameter: (flag, key of the configuration)
    "model": ("--model", "model"),
    "min_score": ("--min-score", "min_score"),
    "top": ("--top", "top"),
    "decoder": ("--decoder", "decoder"),
    "device": ("--device", "device"),
}
FLAGS = {
    "localization": {**SHARED, "proposals": ("--proposals", "proposals")},
    "prompting": {**SHARED, "from_proposals": ("--from-proposals", "proposals")},
}
"""Task -> its flags: a localiser finds events, a model of words gives classes to those that another found."""

MODEL_HELP = "A localiser: model folder, run folder or hf://org/repo[@revision]; with --from-proposals a prompted or a CLIP model."
Model = typer.Option(metavar="MODEL", help=MODEL_HELP)
Write = typer.Option(metavar="LIST", help="csv, srt, anet, html (NAME.events.csv, ...), besides the JSON record.")
MinScore = typer.Option(metavar="P", min=0, max=1, help="Least score of an event [default: the model's own, which leaves out little].")
Top = typer.Option(metavar="N", min=1, help="The best N events of each video.")
PROPOSALS_HELP = "Events of any kind, without their classes. With --classes, or a prompted model: PATH after it is as --from-proposals."
CLASSES_HELP = "Names to tell apart, separated by commas, or a file with one a line [default: those of training]."
FROM_HELP = "Events whose class is to be told: what --proposals wrote (file or folder), results of ActivityNet, or CSV."
Proposals = typer.Option("--proposals", help=PROPOSALS_HELP)
Classes = typer.Option(metavar="LIST", help=CLASSES_HELP)
FromProposals = typer.Option(metavar="PATH", help=FROM_HELP)
Features = typer.Option(metavar="STREAM=FOLDER", help="Features that were made before, instead of making them. Repeatable.")


def command(
    videos: options.Videos,
    model: Annotated[str | None, Model] = None,
    out: options.OutputDir = None,
    write: Annotated[str | None, Write] = None,
    min_score: Annotated[float | None, MinScore] = None,
    top: Annotated[int | None, Top] = None,
    proposals: Annotated[bool, Proposals] = False,
    classes: Annotated[str | None, Classes] = None,
    from_proposals: Annotated[Path | None, FromProposals] = None,
    features: Annotated[list[str] | None, Features] = None,
    overwrite: options.Overwrite = False,
    shard: options.ShardOf = None,
    strict: options.Strict = False,
    decoder: options.Decoder = None,
    device: options.Device = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Find what happens when, in picture and sound: events with class, start, end and score.

    The model's folder says which features it needs: they are made on the way, window by window. With --write html there is a page with a
    player and a lane for each class. Times are presentation times in seconds.

    With --from-proposals events that a detector has found get classes by name, any that --classes lists, by a CLIP model or a model of
    vid finetune --preset prompting/NAME. Their score is that of the proposal times the probability of the class.

    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.core.report.event_writers import SUFFIXES
    from tasks.registry import verb_module
    from vidcli.resolve import Given, resolve

    if proposals and from_proposals is None and by_names(model, classes):
        videos, from_proposals, proposals = _proposals_among(videos)
    task = task_of(model, classes, from_proposals, proposals)
    flags = options.given_flags(FLAGS[task], {**locals(), "from_proposals": from_proposals and str(from_proposals)})
    if classes is not None:
        flags.append(("--classes", "classes", _names(classes)))
    if features:
        flags.append(("--features", "features", options.stream_folders(features)))
    settings = resolve(Given(None, config or (), flags, sets or ()), "detect", task).config
    output = output_to(out, write, SUFFIXES, overwrite)
    found = verb_module(task, "detect").run(settings, inputs_of(videos, shard), output, 0, console())
    lines = partial(_lines, written=out is not None, from_score=settings.min_score, by_name=task == "prompting")
    return report(found, strict, lines, None if out else "events")


def task_of(model: str | None, classes: str | None, from_proposals: Path | None, proposals: bool) -> str:
    """Which task detects: `prompting` where events get classes by names; UsageError where what is given does not go together."""
    from tasks.core.errors import UsageError

    if from_proposals is None and not by_names(model, classes):
        return "localization"
    if from_proposals is None:
        what = "--classes gives names to events" if classes is not None else f"{model} gives names to events"
        raise UsageError(f"{what} that a detector found, and there are none", "read them with --from-proposals PATH")
    if proposals:
        raise UsageError("--proposals leaves classes out, --from-proposals tells them", "give one of them")
    if model is None:
        raise UsageError(
            "nothing says which model tells the classes", "--model RUN of vid finetune --preset prompting/..., or a CLIP model"
        )
    return "prompting"


def by_names(model: str | None, classes: str | None) -> bool:
    """Whether what is given tells classes of events rather than finding events."""
    from tasks.prompting.opened import is_prompted

    return classes is not None or (model is not None and is_prompted(model))


def _proposals_among(given: list[str]) -> tuple[list[str], Path | None, bool]:
    """(videos, file or folder of proposals, whether they are asked for), where `--proposals PATH` stands for `--from-proposals PATH`.

    To the parser `--proposals` takes no value, so that PATH is among the videos; no video or manifest looks like it.
    """
    from tasks.core.data.segments.predictions import are_predictions

    found = [path for path in given if are_predictions(path)]
    videos = [path for path in given if path not in found]
    return (videos, Path(found[0]), False) if len(found) == 1 and videos else (given, None, True)


def _names(given: str) -> list[str]:
    """The names in a list with commas, or in a file, one a line."""
    from tasks.core.errors import InputError, UsageError

    names = given.split(",")
    if Path(given).is_file():
        try:
            names = Path(given).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{given} cannot be read ({error})", "--classes takes a text file with one name a line") from None
    found = [" ".join(name.split()) for name in names if name.strip()]
    if not found:
        raise UsageError(f"--classes {given!r:.60} names nothing", 'for example: --classes "a dog barks,a cat sleeps"')
    return found


def _lines(record: dict[str, Any], written: bool, from_score: float | None, by_name: bool) -> list[dict[str, Any]]:
    """Rows of the table: one per video where files are written, else one per event that is worth showing, in order of time."""
    from tasks.core.report.events import SHOWN_FROM, best_half
    from tasks.core.report.timeline import clock

    found = record.get("events", ())
    least = from_score if from_score is not None else best_half(e["score"] for e in found) if by_name else SHOWN_FROM
    events = sorted((e for e in found if e["score"] >= least), key=lambda e: (e["start"], e["end"]))
    if written:
        return [{"video": record["video"], "events": len(events) if "events" in record else None, "files": short(record["files"])}]
    return [
        {
            "video": record["video"],
            "event": e.get("label", "event"),
            "start": clock(e["start"]),
            "end": clock(e["end"]),
            "score": f"{e['score']:.2f}",
        }
        for e in events
    ]
