"""The settings of public localisers: what their checkpoints do not say, from a file beside them or from what was published."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.core.convert import Tensors
from tasks.core.errors import InputError
from tasks.localization.config import FAR, EventsConfig, LocalizerConfig

_RANGES = ((0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, FAR))
_EPIC_RANGES = ((0, 4), (2, 8), (4, 16), (8, 32), (16, 64), (32, FAR))
_LARGEST = 1 << 20  # bytes of a file of settings


@dataclass(frozen=True)
class Settings:
    """What tensors do not say.

    Attributes:
        heads: of the attentions.
        window: positions that attention sees, one number or one for each level; None: all.
        length: features to which shorter videos are padded.
        positions: whether there is a table of positions, of this length.
        ranges: of regression, for each level.
        drop_path: rate.
        grid: stride and span of the features, seconds; None: not known.
        resize: features to which videos are stretched.
        events: settings of `EventsConfig`.
    """

    heads: int = 4
    window: tuple[int | None, ...] = ()
    length: int = 2304
    positions: bool = False
    ranges: tuple[tuple[float, float], ...] = _RANGES
    drop_path: float = 0.1
    grid: dict[str, float] | None = None
    resize: int | None = None
    events: dict[str, Any] = field(default_factory=dict)


_EPIC = {"points": 5000, "keep": 2000, "sigma": 0.4}
_ANET = {"keep": 100, "sigma": 0.75, "voting": 0.9, "class_agnostic": True, "min_length": 0.001}
PUBLISHED = {  # (source, channels of the picture, classes): what was published for them
    ("actionformer", 2048, 20): (
        "THUMOS14",
        Settings(window=(19,), grid={"stride_s": 4 / 30, "span_s": 16 / 30}, events={"keep": 200, "sigma": 0.5}),
    ),
    ("actionformer", 2304, 97): ("EPIC-KITCHENS-100, verbs", Settings(window=(9,), ranges=_EPIC_RANGES, events=_EPIC)),
    ("actionformer", 2304, 300): ("EPIC-KITCHENS-100, nouns", Settings(window=(9,), ranges=_EPIC_RANGES, events=_EPIC)),
    **{
        ("actionformer", channels, 1): (
            "ActivityNet-1.3",
            Settings(window=(7, 7, 7, 7, 7, None), length=192, positions=True, resize=192, events=_ANET),
        )
        for channels in (512, 2048)
    },
    ("unav", 2048, 100): (
        "UnAV-100",
        Settings(length=224, positions=True, grid={"stride_s": 8 / 25, "span_s": 24 / 25}, events={"keep": 100, "sigma": 0.4}),
    ),
}


def read_settings(file: Path, source: str, tensors: Tensors) -> tuple[Settings, str]:
    """The settings of a checkpoint, and in words where they come from.

    Beside the file may lie `config.txt`, as ActionFormer's training writes it, `config.yaml` or `config.json`.

    Args:
        file: the checkpoint.
        source: `actionformer` or `unav`.
        tensors: by their public names.

    Raises:
        InputError: a file of settings cannot be read.
    """
    for name in ("config.txt", "config.yaml", "config.json"):
        if (beside := file.parent / name).is_file():
            return _parsed(beside), f"from {beside}"
    first = "backbone.embd_V.0.conv.weight" if source == "unav" else "backbone.embd.0.conv.weight"
    sizes = (source, tensors[first].shape[1] if first in tensors else 0, len(tensors.get("cls_head.cls_head.conv.bias", ())))
    if sizes in PUBLISHED:
        name, settings = PUBLISHED[sizes]
        return settings, f"as published for {name}, whose sizes it has"
    return Settings(), "not in the file: 4 heads, attention to all positions, no table of positions; a config.yaml beside it says otherwise"


def _parsed(file: Path) -> Settings:
    """The settings in a file: those of a whole configuration of the public code, or the arguments of its model (`constructor`)."""
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        text = file.read_text(encoding="utf-8")
        read = {".txt": ast.literal_eval, ".yaml": yaml.safe_load, ".json": json.loads}[file.suffix]
        found = read(text)
        model = found.get("constructor") or {**found.get("dataset", {}), **found["model"]}
        tests = model.get("test_cfg") or found.get("test_cfg", {})
        trains = model.get("train_cfg") or found.get("train_cfg", {})
        window = model.get("n_mha_win_size", -1)
        windows = [window] if isinstance(window, int) else list(window)
        if model.get("use_rel_pe") or model.get("fpn_type", "identity") != "identity" or model.get("backbone_type") == "conv":
            raise InputError(
                f"{file}: relative positions, a feature pyramid network and a backbone without attention have no counterpart here"
            )
        return Settings(
            heads=int(model.get("n_head", 4)),
            window=() if windows == [-1] else tuple(None if size <= 1 else int(size) // 2 * 2 + 1 for size in windows),
            length=int(model["max_seq_len"]),
            positions=bool(model.get("use_abs_pe")),
            ranges=tuple((float(low), float(high)) for low, high in model.get("regression_range", _RANGES)),
            drop_path=float(trains.get("droppath", 0.1)),
            resize=int(model["max_seq_len"]) if model.get("force_upsampling") else None,
            events=_events(tests),
        )
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{file} does not hold the settings of the public code: {str(error).splitlines()[0]}") from None


def _events(tests: Mapping[str, Any]) -> dict[str, Any]:
    """The public settings of testing under our names."""
    ours = {
        "pre_nms_thresh": "min_score",
        "pre_nms_topk": "points",
        "max_seg_num": "keep",
        "nms_sigma": "sigma",
        "duration_thresh": "min_length",
        "iou_threshold": "iou",
    }
    found = {mine: tests[name] for name, mine in ours.items() if name in tests}
    found["method"] = {"soft": "gaussian"}.get(tests.get("nms_method", "soft"), tests.get("nms_method"))
    if not tests.get("multiclass_nms", True):  # only then do the public programs vote
        found |= {"class_agnostic": True, "voting": tests.get("voting_thresh", 0.75)}
    return found


def events_of(settings: Settings) -> EventsConfig:
    """How scores become events."""
    return EventsConfig(**settings.events)


def model_of(tensors: Tensors, source: str, settings: Settings, file: Path) -> tuple[LocalizerConfig, dict[str, int], int]:
    """(the architecture, channels of the streams, classes) of public tensors.

    Args:
        tensors: by their public names, in our shapes (`public_names.from_public`).
        source: `actionformer` or `unav`.
        settings: what they do not say.
        file: named in errors.

    Raises:
        InputError: a tensor that tells a size is missing, or sizes do not fit each other.
    """
    streams = {"visual": "backbone.embd_V", "audio": "backbone.embd_A"} if source == "unav" else {"visual": "backbone.embd"}
    branch, stem = ("backbone.cross_att_Va", "backbone.self_att_V") if source == "unav" else ("backbone.branch", "backbone.stem")
    try:
        dims = {name: tensors[f"{start}.0.conv.weight"].shape[1] for name, start in streams.items()}
        classes, outputs = (len(tensors[name]) for name in ("cls_head.cls_head.conv.bias", "reg_head.offset_head.conv.bias"))
        levels = len(tensors["boundary_head.scales"])
        config = LocalizerConfig(
            input="both" if source == "unav" else "visual",
            width=len(tensors[f"{streams['visual']}.0.conv.weight"]),
            heads=settings.heads,
            embed=_count(tensors, streams["visual"]),
            stem=_count(tensors, stem),
            branch="cross" if source == "unav" else "attention",
            window=settings.window,
            positions=settings.length if settings.positions else None,
            drop_path=settings.drop_path,
            layer_scale=1e-4 if f"{branch}.0.drop_path_attn.scale" in tensors else None,
            public_padding=settings.length,
            level_norm="neck.fpn_norms.0.weight" in tensors,
            dependency=any(name.startswith("dependency_block.") for name in tensors),
            ranges=settings.ranges[:levels],
            alignment={"enabled": False, "heads": settings.heads},
            contrast={"enabled": False},
            neck={"enabled": False},
            head={
                "width": len(tensors["cls_head.head.0.conv.weight"]),
                "layers": _count(tensors, "cls_head.head") + 1,
                "class_aware": outputs == 2 * classes and source == "unav",
            },
        )
    except KeyError as error:
        raise InputError(f"{file} is not a checkpoint of {source} that has a counterpart here: it has no {error.args[0]}") from None
    except ValidationError as error:
        reasons = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise InputError(f"{file} cannot be converted: {reasons}") from None
    return config, dims, classes


def _count(tensors: Tensors, start: str) -> int:
    """How many modules of a list there are."""
    return len({name.removeprefix(f"{start}.").split(".")[0] for name in tensors if name.startswith(f"{start}.")})
