"""`vid data check`."""

import os
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import own_share

EXAMPLES = options.examples(
    "vid data check train.csv",
    "vid data check train.csv --json > report.jsonl",
    "vid data check videos/ --no-seek",
)


def command(
    sources: Annotated[list[str], typer.Argument(metavar="MANIFEST...", help="Manifests, folders or videos; PATH@SPLIT picks a split.")],
    workers: options.Workers = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Time for one file; a decoder that hangs is a finding.")] = 300.0,
    seek: Annotated[bool, typer.Option("--seek/--no-seek", help="Compare random access of each reader with sequential decoding.")] = True,
    shard: options.ShardOf = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Read every video once and report what is unusable and why.

    Decodable frames, codec, B-frames, variable frame rate, how exactly each reader seeks, duplicates, labels, times, subtitles; before any
    GPU starts. Exit code 0: every video can be read; 4: some cannot; 3: none can."""
    from tasks.core.data.manifest import read_sources
    from tasks.core.video.check import check_rows, summary

    reporter = console()
    rows = own_share(read_sources(sources, None, any_times=True), shard, lambda row: f"{row.path}\t{row.start_s}\t{row.end_s}")
    results = []
    with reporter.progress("checking", len(rows), "video") as bar:
        for result in check_rows(rows, workers, timeout, seek=seek):
            results.append(result)
            if reporter.json:
                reporter.emit(result.as_dict())
            bar.advance()
    if not reporter.json:
        reporter.table([_line(result) for result in results])
    reporter.info(_in_words(summary(results)))
    good = sum(result.ok for result in results)
    return 0 if good == len(results) else 4 if good else 3


def _line(result: Any) -> dict[str, Any]:
    """One row of the table."""
    near = os.path.relpath(result.path)
    return {
        "path": near if len(near) < len(result.path) else result.path,
        "label": result.label,
        "frames": result.n_frames,
        "fps": round(result.fps, 3),
        "size": f"{result.width}x{result.height}",
        "codec": f"{result.codec}/{result.container}" if result.codec else None,
        "vfr": result.vfr,
        "b-frames": result.b_frames,
        "sound": _sound(result.sound),
        **{reader: _exactness(result.seek.get(reader)) for reader in ("pyav", "decord")},
        "problems": "; ".join(result.problems) or "none",
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
