"""`vid search`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

EXAMPLES = options.examples(
    'vid search "a dog barks" --in films.index',
    'vid search "a dog barks" --in films.index --top 20 --per video --write html',
    'vid search "what the minister said about taxes" --in films.index --by words',
    "vid search --like clip.mp4@12.5 --in films.index",
    'vid search "a goal" --in films.index --json | jq -r \'"\\(.path) \\(.start_s)"\'',
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "top": ("--top", "top"),
    "per": ("--per", "per"),
    "by": ("--by", "by"),
    "apart": ("--apart", "apart_s"),
    "model": ("--model", "model"),
    "device": ("--device", "device"),
}
KINDS = {"html": ".html", "json": ".json"}
"""Kind of file -> how its name ends."""

Query = typer.Argument(metavar="SENTENCE", help="What to look for.")
In = typer.Option("--in", metavar="INDEX", help="An index of vid index.")
Like = typer.Option(metavar="VIDEO[@SECONDS]", help="Instead of a sentence: find what looks like this moment, or like this whole video.")
Top = typer.Option(metavar="N", min=1, help="Results [default: 10].")
Per = typer.Option(metavar="WHAT", help="window: moments; video: the best moment of each video [default: window].")
By = typer.Option(metavar="WHAT", help="pictures: what is seen; words: subtitles and texts [default: pictures].")
Apart = typer.Option(metavar="SECONDS", min=0, help="Two moments of a video are so far apart [default: 5].")
Model = typer.Option(metavar="MODEL", help="Where the model of the index is now [default: where it was].")
Write = typer.Option(metavar="LIST", help="html (a page with a picture of every moment), json; with --out.")
Out = typer.Option("--out", "-o", metavar="FOLDER", help="Where they go, named after what was looked for [default: here].")


def command(
    index: Annotated[Path, In],
    query: Annotated[str | None, Query] = None,
    like: Annotated[str | None, Like] = None,
    top: Annotated[int | None, Top] = None,
    per: Annotated[str | None, Per] = None,
    by: Annotated[str | None, By] = None,
    apart: Annotated[float | None, Apart] = None,
    write: Annotated[str | None, Write] = None,
    out: Annotated[Path | None, Out] = None,
    model: Annotated[str | None, Model] = None,
    device: options.Device = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Find the moments of indexed videos that answer a sentence, look like an example, or in which something is said.

    The sentence is compared with every window of the index by the model that made it, exactly; neighbouring windows of one event are one
    result. By words, subtitles and texts are ranked by BM25: whole words count, in whatever case. Times are presentation times in seconds.

    Exit code 0: there are results; 3: there are none."""
    from tasks.core.errors import UsageError
    from tasks.prompting.search.example import read_example
    from tasks.prompting.search.find import described, run
    from vidcli.resolve import Given, resolve

    if (query is None) == (like is None):
        raise UsageError("give a sentence or --like, one of the two", 'vid search "a dog barks" --in INDEX')
    settings = resolve(Given(None, config or (), options.given_flags(FLAGS, locals()), sets or ()), "search", "prompting").config
    kinds = _kinds(write, out)
    found = run(settings, index, query if like is None else read_example(like), console())
    records = [described(one, rank) for rank, one in enumerate(found, 1)]
    reporter = console()
    if reporter.json:
        reporter.table(records)
    else:
        reporter.table(_lines(records))
    for file in _written(kinds, out or Path(), query or like, found, records, index, settings):
        reporter.info(f"wrote {file}")
    if not found:
        reporter.warn("nothing was found")
    return 0 if found else 3


def _kinds(write: str | None, out: Path | None) -> list[str]:
    """The kinds of files that are asked for."""
    from tasks.core.errors import UsageError
    from tasks.core.files import make_folder
    from tasks.core.inference.output import check_kinds

    kinds = [kind.strip() for kind in (write or "").split(",") if kind.strip()]
    if not kinds and (write is not None or out is not None):
        raise UsageError("--out is for files" if write is None else "--write names nothing", f"--write {', '.join(KINDS)}")
    check_kinds(kinds, KINDS)
    if out is not None:
        make_folder(out)
    return kinds


def _written(
    kinds: list[str], out: Path, title: str, found: list[Any], records: list[dict[str, Any]], index: Path, settings: Any
) -> list[Path]:
    """Writes the files."""
    from tasks.core.files import write_json
    from tasks.prompting.search.page import write_page

    files = [out / f"{_slug(title)}{KINDS[kind]}" for kind in kinds]
    facts = {"index": str(index), "by": settings.by, "per": settings.per, "moments apart": f"{settings.apart_s:g} s"}
    for kind, file in zip(kinds, files, strict=True):
        if kind == "html":
            write_page(file, title, found, facts)
        else:
            write_json(file, {"query": title, **facts, "found": records})
    return files


def _slug(title: str) -> str:
    """A query as the name of a file."""
    return re.sub(r"[^\w.@-]+", "-", title.rpartition("/")[2]).strip("-.")[:60] or "search"


def _lines(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table; what is said stands in it where something is."""
    from tasks.core.report.timeline import clock

    rows = []
    for record in records:
        times = {"from": clock(record["start_s"]), "to": clock(record["end_s"])}
        rows.append({"": record["rank"], "video": record["video"], **times, "score": f"{record['score']:.3f}"})
    if any(record["said"] for record in records):
        for row, record in zip(rows, records, strict=True):
            said = " ".join(record["said"])
            row["said"] = said if len(said) <= 40 else said[:39] + "…"
    return rows
