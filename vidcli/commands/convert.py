"""`vid convert`: weights of others as a model folder, and a model folder for others."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vidcli import options
from vidcli.console import console

HELP = """Make a model folder from published weights, or from a model folder something that other programs open.

From: transformers (a VideoMAE folder or hf://org/repo), videomae-pth (an original VideoMAE checkpoint), moco-v2 and
torchvision-resnet50 (for event boundaries), dpc, memdpc and coclr (.pth.tar of pretraining or of a classifier), actionformer and unav
(.pth.tar of a localiser, its averaged weights), efficient-prompt (learned prompts, with the frozen CLIP, which is written beside the
model), tan (.pth.tar of a sentence aligner; its words come from --vocabulary). With --bridge conse a classifier of pictures (the .pth
of EfficientNet-Lite0) and a sentence encoder that were never trained together become an image-text model for vid index and vid
search: a picture is where the names of its likeliest classes are.
To: transformers (opens with from_pretrained and the video-classification pipeline; for masked and fine-tuned video transformers of
RGB with VideoMAE's position codes: those of all presets of published size, not those of *-tiny and *-gestures), onnx
(any classifier, or the encoder of any other model), dpc, memdpc, coclr, actionformer or unav (a .pth.tar for their public code). Files are
read as tensors only, every tensor must have its place in the model, and what was written is compared with the model. Weights keep the
licence they were published under."""

EXAMPLES = options.examples(
    "vid convert hf://MCG-NJU/videomae-base -o models/videomae-base",
    "vid convert checkpoint.pth --from videomae-pth -o models/videomae",
    "vid convert moco_v2_200ep_pretrain.pth.tar --from moco-v2 -o models/moco-v2",
    "vid convert runs/mine-ssv2 --to transformers -o mine-transformers",
    "vid convert runs/mine-ssv2 --to onnx -o mine-onnx",
    "vid convert dpc-k400.pth.tar --from dpc -o models/dpc",
    "vid convert CoCLR-ucf101-rgb-128-s3d-ep182.pth.tar --from coclr -o models/coclr-rgb",
    "vid convert HMDB51.pth.tar --from efficient-prompt --vocabulary clip-vit-base-patch16 -o models/prompts-hmdb51",
    "vid convert efficientnet-lite0-57934424.pth --bridge conse --text all-MiniLM-L6-v2 -o models/lite-minilm",
    "vid convert tan-cotrain.pth.tar --from tan --vocabulary s3d_dict.npy -o models/tan",
    "vid convert thumos_i3d_reproduce/epoch_034.pth.tar --from actionformer -o models/actionformer-thumos14",
)

PUBLIC = {
    "dpc": "predictive",
    "memdpc": "predictive",
    "coclr": "contrastive",
    "actionformer": "localization",
    "unav": "localization",
    "efficient-prompt": "prompting",
    "tan": "alignment",
}
"""Layouts of public code that are read and written: the task that knows them."""
KINDS = ("transformers", "videomae-pth", "moco-v2", "torchvision-resnet50", *PUBLIC)
ARCHITECTURES = {"VideoMAEForPreTraining": "masked", "VideoMAEForVideoClassification": "classify"}
MARKS = {  # a tensor that only this kind of file has: (kind, task)
    "encoder.patch_embed.proj.weight": ("videomae-pth", "masked"),
    "patch_embed.proj.weight": ("videomae-pth", "classify"),
    "encoder_q.conv1.weight": ("moco-v2", "boundaries"),
    "layer1.0.conv1.weight": ("torchvision-resnet50", "boundaries"),
    "agg.cell_list.0.reset_gate.weight": ("dpc", "predictive"),
    "convrnn.cell_list.0.reset_gate.weight": ("dpc", "predictive"),
    "agg_f.cell_list.0.reset_gate.weight": ("memdpc", "predictive"),
    "encoder_q.0.Conv_1a.conv1.weight": ("coclr", "contrastive"),
    "backbone.Conv_1a.conv1.weight": ("coclr", "contrastive"),
    "backbone.embd.0.conv.weight": ("actionformer", "localization"),
    "backbone.embd_V.0.conv.weight": ("unav", "localization"),
    "temporalEmbedding.weight": ("efficient-prompt", "prompting"),
    "video_pre_proj.weight": ("tan", "alignment"),
    "online.video_pre_proj.weight": ("tan", "alignment"),
}
READ_ONLY = ("efficient-prompt", "tan")
"""Layouts of public code that are read and not written."""
TO = ("vid", "transformers", "onnx", *(kind for kind in PUBLIC if kind not in READ_ONLY))
BRIDGES = ("conse",)
FLAG = {"flow": "--flow", "settings": "--set", "vocabulary": "--vocabulary"}
SAYS = {"flow": ("dpc", "memdpc", "coclr"), "settings": ("efficient-prompt",), "vocabulary": ("efficient-prompt", "tan")}
"""What a converter can be told: the layouts that take it."""


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A file or folder as published, hf://org/repo, or a model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write.")],
    kind: Annotated[str, typer.Option("--from", metavar="KIND", help=f"auto, vid, {', '.join(KINDS)}.")] = "auto",
    to: Annotated[str | None, typer.Option(metavar="KIND", help=f"{', '.join(TO)} [default: vid, for weights of others].")] = None,
    flow: Annotated[
        bool, typer.Option("--flow", help="The weights, of dpc, memdpc or coclr, were trained on optical flow: files do not say it.")
    ] = False,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="CLIP's vocabulary, a folder or file, for the towers of efficient-prompt; MIL-NCE's s3d_dict.npy for tan."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=N", help="What files of efficient-prompt do not say: prefix, postfix, tfm_heads. Repeatable."),
    ] = None,
    bridge: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="conse: a classifier of pictures and a text tower (--text) as one image-text model."),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="MODEL", help="With --bridge: a sentence encoder or a CLIP model.")] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --bridge: names of the classes, a line each [default: ImageNet's].")
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Convert, check and report."""
    reporter = console()
    if bridge is not None or text is not None or names is not None:
        given = {"--from": kind != "auto", "--to": to, "--flow": flow, "--vocabulary": vocabulary, "--set": sets}
        reporter.result(bridged(source, bridge, text, names, out, reporter, [flag for flag, value in given.items() if value]), "result")
        return 0
    said = {"flow": True} if flow else {}
    said |= {name: value for name, value in (("settings", numbers_of(sets)), ("vocabulary", vocabulary)) if value}
    reporter.result(convert(source, kind, to, out, reporter, said), "result")
    return 0


def bridged(
    source: str, bridge: str | None, text: str | None, names: Path | None, out: Path, reporter: Any, others: list[str]
) -> dict[str, Any]:
    """Writes the model of a classifier of pictures and a text tower; UsageError where the flags do not go together.

    Args:
        others: flags of other conversions that were given.
    """
    from tasks.core.errors import UsageError

    if bridge is None:
        raise UsageError(f"{'--text' if text else '--names'} is for a bridge between two models", "add --bridge conse")
    if bridge not in BRIDGES:
        raise UsageError(f"unknown bridge '{bridge}'", f"known: {', '.join(BRIDGES)}")
    if text is None:
        raise UsageError("a bridge needs a text tower", "--text FOLDER or hf://org/repo: a sentence encoder")
    if others:
        raise UsageError(f"{others[0]} does not go with --bridge", f"leave {others[0]} out")
    from tasks.core.towers.bridge import bridge as make
    from tasks.core.towers.bridge import read_names

    return make(str(local(source)), text, out, reporter, None if names is None else read_names(names))


def numbers_of(sets: list[str] | None) -> dict[str, int]:
    """KEY=N texts as a mapping; UsageError for another form."""
    from tasks.core.errors import UsageError

    found = {}
    for text in sets or ():
        key, _, value = text.partition("=")
        if not value.isdecimal():
            raise UsageError(f"--set {text}: expected KEY=N, a whole number", "for example --set prefix=4")
        found[key] = int(value)
    return found


def convert(source: str, kind: str, to: str | None, out: Path, reporter: Any, said: dict[str, Any] | None = None) -> dict[str, Any]:
    """Converts by the tables above; raises UsageError where they have no way."""
    from tasks.core.errors import UsageError

    if kind not in ("auto", "vid", *KINDS):
        raise UsageError(f"cannot convert from '{kind}'", f"known: auto, vid, {', '.join(KINDS)}")
    if to is not None and to not in TO:
        raise UsageError(f"cannot convert to '{to}'", f"known: {', '.join(TO)}")
    path = local(source)
    if is_model(path):
        if kind not in ("auto", "vid"):
            raise UsageError(f"{source} is a model folder of this tool, not {kind}", "leave --from out")
        if said:
            flag = FLAG[next(iter(said))]
            raise UsageError(f"{source} is a model folder, which says itself what it sees", f"leave {flag} out")
        if to in (None, "vid"):
            raise UsageError(f"{source} is a model folder already", "say --to transformers or --to onnx")
        if to in PUBLIC:
            return converter(PUBLIC[to]).export(path, to, out, reporter)
        return export_transformers(path, out, reporter) if to == "transformers" else export_onnx(path, out, reporter)
    if kind == "vid":
        raise UsageError(f"{source} is not a model folder of this tool", "leave --from out to have it recognised")
    if to not in (None, "vid"):
        raise UsageError(f"{source} is not a model folder of this tool", f"convert it first, then its model folder --to {to}")
    found, task = recognise(path)
    if kind not in ("auto", found):
        raise UsageError(f"{source} looks like {found}, not {kind}", f"--from {found}")
    for name in said or ():
        if found not in SAYS[name]:
            raise UsageError(f"{FLAG[name]} does not go with {found}", f"it is for {', '.join(SAYS[name])}")
    return converter(task).convert(path, found, out, reporter, **(said or {}))


def export_transformers(model: Path, out: Path, reporter: Any) -> dict[str, Any]:
    """Writes a `transformers` folder from a masked or classify model folder or run folder."""
    from tasks.core.checkpoint import find_model, load_config
    from tasks.core.errors import UsageError

    task = load_config(find_model(str(model)))["task"]
    if task not in ARCHITECTURES.values():
        raise UsageError(f"{model} is a model of task '{task}'; --to transformers takes masked and classify models", "--to onnx takes more")
    return converter(task).export_transformers(model, out, reporter)


def export_onnx(model: Path, out: Path, reporter: Any) -> dict[str, Any]:
    """Writes `model.onnx` and config.json: encoder and head of a classifier, the encoder of any other model."""
    from tasks.core.checkpoint import find_model, load_config
    from tasks.core.towers.convert import export_onnx

    task = load_config(find_model(str(model)))["task"]
    export = converter(task).export_onnx if task == "classify" else export_onnx
    return export(model, out, reporter)


def converter(task: str) -> Any:
    """The module of a task that converts."""
    from importlib import import_module

    return import_module(f"tasks.{task}.convert")


def is_model(path: Path) -> bool:
    """Whether a path is a model folder or run folder of this tool, finished or not."""
    import json

    if any((path / name).exists() for name in ("model/config.json", "config.yaml")):
        return True
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "architecture" in config and "task" in config


def local(source: str) -> Path:
    """The path of a source; an `hf://` reference is fetched first."""
    from tasks.core import hub

    return hub.fetch_model(source) if source.startswith(hub.PREFIX) else Path(source)


def recognise(path: Path) -> tuple[str, str]:
    """(kind, task) of weights of others; InputError where nothing here reads them."""
    from tasks.core.convert import read_json, read_pth, state_dict
    from tasks.core.errors import InputError

    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        config = read_json(path / "config.json")
        names = config.get("architectures") or [config.get("model_type", "nothing")]
        task = next((ARCHITECTURES[name] for name in names if name in ARCHITECTURES), None)
        if task is None:
            raise InputError(f"{path} holds {', '.join(map(str, names))}", f"readable: {', '.join(ARCHITECTURES)}")
        return "transformers", task
    names = {name.removeprefix("module.") for name in state_dict(read_pth(path), path)}
    found = next((known for mark, known in MARKS.items() if mark in names), None)
    if found is None:
        raise InputError(f"{path} holds none of the weights known here", f"readable: {', '.join(KINDS)}")
    return found
