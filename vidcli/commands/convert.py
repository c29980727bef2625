"""`vid convert`: published weights as a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from vidcli import options
from vidcli.console import console

HELP = """Make a model folder from published weights.

moco-v2: MoCo v2's ResNet-50; torchvision-resnet50: a plain state dict. Both start event-boundary pretraining and fine-tuning
with --from. The file is read as tensors only, and every tensor must have its place in the model. Weights keep the licence
they were published under."""

EXAMPLES = options.examples(
    "vid convert moco_v2_200ep_pretrain.pth.tar --from moco-v2 -o models/moco-v2",
    "vid convert resnet50-11ad3fa6.pth --from torchvision-resnet50 -o models/resnet50",
)


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The .pth or .pth.tar file as published.")],
    source: Annotated[str, typer.Option("--from", metavar="SOURCE", help="moco-v2 or torchvision-resnet50.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The model folder to write.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Convert and report."""
    from tasks.boundaries.convert import convert

    talk = console()
    talk.result(convert(file, source, out, talk), "result")
    return 0
