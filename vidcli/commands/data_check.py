"""`vid data check`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import RED, YELLOW, console
from vidcli.inference import own_share

EXAMPLES = options.examples(
    "vid data check train.csv",
    "vid data check train.csv --out report.csv",
    "vid data check train.csv --json > report.jsonl",
    "vid data check videos/ --no-seek",
    "vid data check unav100_annotations.json",
    "vid data check train.csv val.csv --events",
)


def command(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="MANIFEST...", help="Manifests, folders, videos or files of annotated events; PATH@SPLIT picks a split."),
    ],
    workers: options.Workers = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Time for one file; a decoder that hangs is a finding.")] = 300.0,
    seek: Annotated[bool, typer.Option("--seek/--no-seek", help="Compare random access of each reader with sequential decoding.")] = True,
    events: Annotated[
        bool, typer.Option("--events", help="Count annotated events by class, split and length instead of reading videos.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write all rows: .csv or .jsonl.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show rows without problems too, however many there are.")] = False,
    shard: options.ShardOf = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Read every video once and report what is unusable and why.

    Decodable frames, codec, B-frames, variable frame rate, how exactly each reader seeks, duplicates, labels, times, subtitles; before any
    GPU starts. Exit code 0: every video can be read; 4: some cannot; 3: none can. Of annotated events (files of ActivityNet, UnAV-100,
    THUMOS14, EPIC-KITCHENS-100; manifests with --events) it shows how many there are and how long they are, and opens no video."""
    from tasks.core.data.manifest import read_sources
    from tasks.core.data.segments.statistics import are_annotations
    from tasks.core.signals import StopFlag, exit_for
    from tasks.core.video.check import check_rows, summary

    if events or any(are_annotations(source) for source in sources):
        return _show_events(sources)
    reporter = console()
    rows = own_share(read_sources(sources, None, any_times=True), shard, lambda row: f"{row.path}\t{row.start_s}\t{row.end_s}")
    results: list[Any] = []
    with StopFlag() as stop, reporter.progress("checking", len(rows), "video") as bar:
        for result in check_rows(rows, workers, timeout, seek=seek, stopped=lambda: bool(stop.received)):
            results.append(result)
            if reporter.json:
                reporter.emit(result.as_dict())
            bar.advance()
            if stop.received:
                break
    if out is not None:
        _write(out, results)
    if stop.received and len(results) < len(rows):
        told = f"they are in {out}" if out is not None else "nothing is written"
        raise exit_for(stop.received)(f"stopped by a signal; {len(results)} of {len(rows)} rows were checked, {told}", AGAIN)
    if not reporter.json:
        _show(results, everything)
    reporter.info(_in_words(summary(results)))
    good = sum(result.ok for result in results)
    return 0 if good == len(results) else 4 if good else 3


AGAIN = "the same command begins anew; files that were read once are read faster"
FEW = 20
"""So many rows are shown whether they have problems or not."""


def _show(results: list[Any], everything: bool) -> None:
    """The rows as a table, those with problems first; of many, only these."""
    ordered = sorted(results, key=lambda result: (result.ok, not result.problems))
    shown = [result for result in ordered if result.problems or everything or len(results) <= FEW]
    lines = [_line(result) for result in shown]
    dull = [name for name, usual in DULL.items() if all(line[name] in usual for line in lines)]
    columns = [name for name in (lines[0] if lines else ()) if name not in dull]
    console().table(lines, columns, [None if not result.problems else YELLOW if result.ok else RED for result in shown])
    if left := len(results) - len(shown):
        console().info(f"{left} rows without problems are not shown: --all shows them, --out FILE writes everything")


DULL = {"label": (None,), "vfr": (False,), "b-frames": (False,), "sound": (None,), "pyav": (None, "exact"), "decord": (None, "exact")}
"""Column: values that say nothing worth a column, where no row has another."""


def _write(file: Path, results: list[Any]) -> None:
    """All rows with everything that was found out, as JSON Lines or, by any other ending, as CSV."""
    import csv
    from json import dumps

    from tasks.core.files import replacing

    records = [result.as_dict() for result in results]
    with replacing(file) as temporary, open(temporary, "w", encoding="utf-8", newline="") as lines:
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            lines.writelines(dumps(record, ensure_ascii=False) + "\n" for record in records)
            return
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(records[0] if records else ())
        plain = (list, dict)
        table.writerows([dumps(v, ensure_ascii=False) if isinstance(v, plain) else v for v in record.values()] for record in records)


def _show_events(sources: list[str]) -> int:
    """A row for each class, and what is odd."""
    from tasks.core.data.segments.statistics import read_events, statistics

    reporter = console()
    found = read_events(sources)
    totals = statistics(found)
    for fact in found.facts:
        reporter.info(fact)
    for reason, count in totals["noted"].items():
        reporter.info(f"{count} of {totals['n_events']} events {reason}")
    for reason, count in totals["left_out"].items():
        reporter.warn(f"{count} cannot be used: {reason}")
    for split, missing in totals["missing_in_training"].items():
        others = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
        reporter.warn(f"classes of '{split}' that training lacks: {', '.join(missing[:5])}{others}")
    if reporter.json:
        reporter.emit({"sources": sources, **totals})
        return 0
    splits = list(totals["splits"])
    every = {"events": totals["n_events"], "videos": totals["n_videos"], "length_s": totals["length_s"]}
    every["splits"] = {name: count["events"] for name, count in totals["splits"].items()}
    rows = [*totals["classes"].items(), (f"{totals['n_classes']} classes", every)]
    reporter.table([_class_line(name, entry, splits) for name, entry in rows])
    busy = totals["events_per_video"]
    reporter.info(
        f"{busy['mean']:.1f} events per video, at most {busy['max']:.0f} (in {totals['most_events_in']}); "
        f"mean length {totals['length_s']['mean']:.2f} s"
    )
    return 0


def _class_line(name: str, entry: dict[str, Any], splits: list[str]) -> dict[str, Any]:
    """Events per split where there are several, videos and lengths; it fits 80 columns with three splits."""
    short = {"training": "train", "validation": "val", "testing": "test"}
    named = {short.get(split.lower(), split.lower())[:8]: split for split in splits}
    columns = {title: entry["splits"].get(split, 0) for title, split in named.items()} if len(named) == len(splits) > 1 else {}
    lengths = {f"{key} s": round(entry["length_s"][key], 2) for key in ("min", "median", "max")}
    title = name if len(name) <= 20 else f"{name[:19]}…"
    return {"class": title, **({"events": entry["events"]} if len(columns) < 3 else {}), **columns, "videos": entry["videos"], **lengths}


def _line(result: Any) -> dict[str, Any]:
    """One row of the table."""
    near = os.path.relpath(result.path)
    return {
        "path": near if len(near) < len(result.path) else result.path,
        "problems": "; ".join(result.problems) or "none",
        "label": result.label,
        "frames": result.n_frames,
        "fps": round(result.fps, 3),
        "size": f"{result.width}x{result.height}",
        "codec": f"{result.codec}/{result.container}" if result.codec else None,
        "vfr": result.vfr,
        "b-frames": result.b_frames,
        "sound": _sound(result.sound),
        **{reader: _exactness(result.seek.get(reader)) for reader in ("pyav", "decord")},
    }


def _sound(found: dict[str, Any] | None) -> str | None:
    """Codec, rate and channels, and how far from the pictures the sound begins where that is a frame or more."""
    if found is None:
        return None
    late = found["offset_s"] or 0.0
    shift = f", {late:+.2f} s" if abs(late) >= 0.04 else ""
    return f"{found['codec']} {(found['rate'] or 0) / 1000:g} kHz {found['channels']} ch{shift}"


def _exactness(found: dict[str, Any] | None) -> str | None:
    """How a reader's random access did: exact, or how often it was wrong."""
    if found is None:
        return None
    if "error" in found:
        return "fails"
    return "exact" if found["wrong"] == 0 else f"{found['wrong']}/{found['queries']} wrong"


def _in_words(totals: dict[str, Any]) -> str:
    parts = [f"{totals['ok']} of {totals['rows']} rows can be read ({totals['hours']:.2f} h)", f"{totals['with_problems']} have problems"]
    parts += [f"{len(totals['classes'])} classes"] if totals["classes"] else []
    parts += [
        f"{totals[key]} {name}"
        for key, name in (("with_sound", "with sound"), ("vfr", "of variable frame rate"), ("duplicates", "duplicates"))
        if totals[key]
    ]
    return ", ".join(parts)
