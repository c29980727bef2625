"""`vid gen-pseudo`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console
from vidcli.inference import report

EXAMPLES = options.examples(
    "vid gen-pseudo normal/ --out pseudo --spatial telea --masks random",
    "vid gen-pseudo normal/ --out pseudo --model runs/pretrain-pseudo-ldm-inpaint-256 --masks boxes:boxes.csv",
    "vid gen-pseudo normal.csv --out pseudo --model hf://org/inpainting-pipeline",
    "vid gen-pseudo normal/ --out pseudo --spatial patch --masks motion --temporal none --dry-run",
    "sbatch --array=1-8 --wrap 'vid gen-pseudo normal/ --out pseudo --model MODEL'    # each job makes an eighth",
)

FLAGS = {  # parameter: (flag, key of the configuration)
    "spatial": ("--spatial", "spatial"),
    "model": ("--model", "model"),
    "temporal": ("--temporal", "temporal.kind"),
    "short_side": ("--short-side", "short_side"),
    "batch_size": ("--batch-size", "batch_size"),
    "device": ("--device", "device"),
    "seed": ("--seed", "seed"),
    "decoder": ("--decoder", "decoder"),
}

Data = typer.Argument(metavar="DATA...", help="Normal videos: files, folders, patterns, manifests; - reads paths from standard input.")
Out = typer.Option("--out", "-o", metavar="FOLDER", help="Write here; the same command again makes what is missing.")
Spatial = typer.Option(metavar="KIND", help="ldm (diffusion, needs --model), telea, patch or none [default: ldm].")
Masks = typer.Option(metavar="KIND", help="random, segmentation, motion or boxes:FILE [default: segmentation].")
Temporal = typer.Option(metavar="KIND", help="flow-mixup or none [default: flow-mixup].")
Model = typer.Option(metavar="MODEL", help="Inpainting model: a run of pseudo/ldm-inpaint-*, any diffusers pipeline folder, hf://org/repo.")
ShortSide = typer.Option(metavar="PX", min=8, help="Short side of the frames that are written [default: as the video].")
BatchSize = typer.Option(metavar="N", min=1, help="Frames inpainted at a time [default: 8].")
Seed = typer.Option(metavar="N", help="Of everything that is drawn.")
DryRun = typer.Option("--dry-run", help="Check the settings, print what would be made, make nothing.")


def command(
    data: Annotated[list[str], Data],
    out: Annotated[Path, Out],
    spatial: Annotated[str | None, Spatial] = None,
    masks: Annotated[str | None, Masks] = None,
    temporal: Annotated[str | None, Temporal] = None,
    model: Annotated[str | None, Model] = None,
    shard: options.ShardOf = None,
    short_side: Annotated[int | None, ShortSide] = None,
    batch_size: Annotated[int | None, BatchSize] = None,
    seed: Annotated[int | None, Seed] = None,
    device: options.Device = None,
    dry_run: Annotated[bool, DryRun] = False,
    strict: options.Strict = False,
    workers: options.Workers = None,
    decoder: options.Decoder = None,
    config: options.ConfigFiles = None,
    sets: options.Sets = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Make pseudo-anomalies of normal videos: inpainted regions, and mixed patches of optical flow.

    The folder holds frames, masks, flow, and a manifest that says what was done to each frame. --spatial telea and patch need no model;
    results with them are not those of diffusion, and every output names its kind. Exit code 0: every video was made; 4: some could not be;
    3: none."""
    from tasks.core.data.inputs import gather
    from tasks.core.shard import chosen
    from tasks.core.video.children import default_workers
    from tasks.pseudo.generate import plan, run
    from vidcli.resolve import Given, resolve

    flags = options.given_flags(FLAGS, locals()) + _mask_flags(masks)
    settings = resolve(Given(None, config or (), flags, sets or ()), "generate", "pseudo").config
    inputs = gather(data, sys.stdin)
    part = chosen(shard)
    if dry_run:
        console().table(plan(settings, inputs, part, out))
        return 0
    return report(run(settings, inputs, part, out, default_workers(workers), console()), strict, _lines, again=None)


def _mask_flags(masks: str | None) -> list[tuple[str, str, Any]]:
    """`--masks KIND` or `--masks boxes:FILE` as settings."""
    if masks is None:
        return []
    kind, _, file = masks.partition(":")
    return [("--masks", "masks.kind", kind), ("--masks", "masks.file", file or None)]


def _lines(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table: one per video."""
    masks = ", ".join(f"{kind} {n}" for kind, n in record["masks_used"].items())
    shown = {"video": record["video"], "frames": record["frames"], "spatial": record["spatial"], "masks": masks}
    return [{**shown, "area": f"{record['mask_area']:.1%}", "temporal": record["temporal"]}]
