"""`vid data flow`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import report, short

EXAMPLES = options.examples(
    "vid data flow train.csv -o flow --device cuda",
    "vid data flow videos/ -o flow --method dis --short-side 128",
    "vid data flow train.csv -o flow --shard 3/8",
)


FLAGS = {"method": "--method", "short_side": "--short-side", "bound_px": "--bound", "gap_frames": "--gap"}


class Method(StrEnum):
    """Methods of `tasks.core.flow.flow_config.FlowSettings`."""

    tvl1 = "tvl1"
    dis = "dis"


Sources = typer.Argument(metavar="MANIFEST...", help="Manifests, videos, folders, patterns; - reads paths from standard input.")
Out = typer.Option("--out", "-o", metavar="FOLDER", help="Write here; the same command again does what is missing or stale.")
HowComputed = typer.Option(help="tvl1: as MemDPC and CoCLR have it, for a GPU; dis: OpenCV's fast flow, on the CPU.")
ShortSide = typer.Option(metavar="PX", help="Of the frames that flow is computed on; 0: as they are.")
Bound = typer.Option(metavar="PX", help="From -PX to PX go into 8 bits; more is clipped.")
Gap = typer.Option(metavar="N", min=1, help="From each frame to the Nth after it.")


def command(
    sources: Annotated[list[str], Sources],
    out: Annotated[Path, Out],
    method: Annotated[Method, HowComputed] = Method.tvl1,
    short_side: Annotated[int, ShortSide] = 256,
    bound: Annotated[float, Bound] = 20.0,
    gap: Annotated[int, Gap] = 1,
    shard: options.ShardOf = None,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    workers: options.Workers = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Compute the optical flow of videos once and keep it, for training on two streams or on flow (data.flow.folder).

    One zip of PNG pictures per video (red: u, green: v), found by the content of the video; flow.json says how to read them.
    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.core.config import build
    from tasks.core.data.inputs import gather
    from tasks.core.device import usable_device
    from tasks.core.files import make_folder
    from tasks.core.flow.flow_config import FlowSettings
    from tasks.core.flow.precompute import Job, run
    from tasks.core.shard import chosen
    from tasks.core.video.children import default_workers

    wanted = {"method": method.value, "short_side": short_side or None, "bound_px": bound, "gap_frames": gap}
    settings = build(FlowSettings, wanted, FLAGS)
    on = usable_device(device or "auto") if method is Method.tvl1 else usable_device("cpu")
    inputs, part = gather(sources, sys.stdin), chosen(shard)
    make_folder(out)
    found = run(Job(out, settings, on, overwrite), inputs, part, default_workers(workers), console())
    return report(found, strict, _lines)


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: one per video."""
    size = f"{record['width']}x{record['height']}"
    return [{"video": record["video"], "flows": record["n_flows"], "size": size, "files": short(record["files"])}]
