"""`vid motion-boxes`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import inputs_of, output_to, report, short

EXAMPLES = options.examples(
    "vid motion-boxes clip.mp4",
    "vid motion-boxes videos/ -o boxes.csv --flow dis",
    "vid motion-boxes videos/ -o found --write csv,mp4",
    "vid motion-boxes train.csv -o boxes.csv --device cuda --shard 3/8",
)

FLAGS = {"mode": "--mode", "flow": "--flow", "short_side": "--short-side"}
TABLE = ".csv"


class Mode(StrEnum):
    """Modes of `tasks.core.flow.boxes_config.MotionBoxConfig`."""

    paper = "paper"
    code = "code"


class Flow(StrEnum):
    """Its sources of flow."""

    tvl1 = "tvl1"
    dis = "dis"


Out = typer.Option(
    "--out", "-o", metavar="PATH", help="FOLDER for files of each video, or FILE.csv for all (each one's in FILE/); done ones are kept."
)
Write = typer.Option(metavar="LIST", help="csv, mp4 (NAME.boxes.csv, ...; the mp4 shows the box), besides the JSON record.")
HowFound = typer.Option("--mode", help="paper: the box fits what moves; code: numbers of MOFO's public code, wide boxes.")
HowComputed = typer.Option("--flow", help="tvl1: as the paper, for a GPU; dis: OpenCV's fast flow, on the CPU.")
ShortSide = typer.Option(metavar="PX", help="Frames are scaled down to it where theirs is longer, for their flow.")


def command(
    videos: options.Videos,
    out: Annotated[Path | None, Out] = None,
    mode: Annotated[Mode, HowFound] = Mode.paper,
    flow: Annotated[Flow, HowComputed] = Flow.tvl1,
    short_side: Annotated[int, ShortSide] = 240,
    write: Annotated[str | None, Write] = None,
    overwrite: options.Overwrite = False,
    shard: options.ShardOf = None,
    strict: options.Strict = False,
    workers: options.Workers = None,
    decoder: options.Decoder = None,
    device: options.Device = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Find where things move: one box per frame, without a detector and however the camera moves (MOFO).

    A CSV of boxes is what MOFO is trained with and what gen-pseudo --masks boxes:FILE takes; pixels are those of the video, frames count
    from 0. Where nothing moves a frame has the box of the frame before, and a still video the central half of its frames.
    Exit code 0: every video was read; 4: some could not be; 3: none."""
    from tasks.core.config import build
    from tasks.core.device import usable_device
    from tasks.core.flow.boxes_config import MotionBoxConfig
    from tasks.core.inference.motion_boxes import SUFFIXES, MotionBoxDetector, collect, run
    from tasks.core.video.children import default_workers

    config = build(MotionBoxConfig, {"mode": mode.value, "flow": flow.value, "short_side": short_side}, FLAGS)
    on = usable_device(device or "auto") if flow is Flow.tvl1 else usable_device("cpu")
    table = out if out is not None and out.suffix.lower() == TABLE and not out.is_dir() else None
    output = output_to(table.with_suffix("") if table else out, write, SUFFIXES, overwrite)
    detector = MotionBoxDetector(config, on, decoder or "auto")
    code = report(run(detector, inputs_of(videos, shard), output, default_workers(workers), console()), strict, _lines)
    if table and code != 3:
        console().info(f"{table}: boxes of {collect(output.folder, table, detector)} videos")
    return code


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: one per video."""
    boxes = record["boxes"]
    area = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes) / len(boxes) / (record["width"] * record["height"])
    row = {"video": record["video"], "frames": len(boxes), "moving": record["moving_frames"], "area": f"{area:.0%}"}
    return [{**row, "files": short(record["files"])} if record["files"] else row]
