"""How the public code of ActionFormer and UnAV names and shapes the tensors of a localiser."""

import re

import torch

from tasks.core.convert import Names, Tensors
from tasks.localization.config import LocalizerConfig

_BLOCK = {  # our name in a transformer block: the name there
    "norm_mlp": "ln2",
    "mlp.0": "mlp.0",
    "mlp.2": "mlp.3",
    "attention.proj": "attn.proj",
    **{f"attention.{name}": f"attn.{name}" for name in ("query", "key", "value", "query_norm", "key_norm", "value_norm")},
}
_SCALES = "boundary_head.scales"


def names_of(config: LocalizerConfig, source: str) -> Names:
    """Our name of every tensor, less the scales of the boundary head -> (its name there,).

    Args:
        config: of a model as `public.model_of` makes it.
        source: `actionformer` or `unav`.
    """
    names = _heads(config)
    if source == "actionformer":
        names |= _embedding(config, "visual", "backbone.embd", "backbone.embd_norm")
        names |= _blocks(config, "backbone.stem.visual", "backbone.stem", config.stem)
        names |= _blocks(config, "backbone.branch.visual", "backbone.branch", config.levels - 1)
        for level in range(config.levels if config.level_norm else 0):
            names |= _both(f"level_norms.{level}", f"neck.fpn_norms.{level}")
        return names
    for stream, own, other in (("visual", "V", "a"), ("audio", "A", "v")):
        names |= _embedding(config, stream, f"backbone.embd_{own}", f"backbone.embd_norm_{own}")
        names |= _blocks(config, f"backbone.stem.{stream}", f"backbone.self_att_{own}", config.stem)
        names |= _block(config, f"backbone.cross.{stream}", f"backbone.ori_cross_att_{own}{other}")
        names |= _blocks(config, f"backbone.branch.{stream}", f"backbone.cross_att_{own}{other}", config.levels - 1)
    if config.dependency:
        names |= {f"dependency.{name}.weight": (f"dependency_block.feature_{name}.conv.weight",) for name in ("expand", "squeeze")}
        names |= _block(config, "dependency.together", "dependency_block.cooccur_branch")
        names |= _block(config, "dependency.temporal", "dependency_block.temporal_branch")
    return names


def from_public(tensors: Tensors) -> Tensors:
    """Public tensors, by their own names, in our shapes: norms and factors as vectors, convolutions of width 1 as matrices; the scales of
    the boundary head as one vector under our name.
    """
    found, scales = {}, {}
    for name, tensor in tensors.items():
        if level := re.fullmatch(r"reg_head\.scale\.(\d+)\.scale", name):
            scales[int(level[1])] = tensor.float()
        elif tensor.ndim == 3 and tensor.shape[0] == 1 and tensor.shape[2] == 1:
            found[name] = tensor.flatten()
        elif tensor.ndim == 3 and tensor.shape[2] == 1:
            found[name] = tensor[..., 0]
        else:
            found[name] = tensor
    return found | ({_SCALES: torch.stack([scales[level] for level in sorted(scales)])} if scales else {})


def to_public(weights: Tensors, names: Names) -> Tensors:
    """Our tensors under the names and in the shapes of public code; those that `names` does not list are left out."""
    found = {f"reg_head.scale.{level}.scale": value.clone() for level, value in enumerate(weights[_SCALES])}
    for ours, (theirs,) in names.items():
        tensor = weights[ours]
        if tensor.ndim == 2:
            tensor = tensor[..., None]
        elif tensor.ndim == 1 and (
            theirs.endswith(".scale") or re.search(r"(norm|norm\.\d+|norms\.\d+|embd_norm_?[VA]?\.\d+|ln\d+)\.\w+$", theirs)
        ):
            tensor = tensor[None, :, None]
        found[theirs] = tensor.clone()
    return found


def _both(ours: str, theirs: str) -> Names:
    return {f"{ours}.{part}": (f"{theirs}.{part}",) for part in ("weight", "bias")}


def _embedding(config: LocalizerConfig, stream: str, convs: str, norms: str) -> Names:
    names: Names = {}
    for number in range(config.embed):
        names[f"backbone.embed.{stream}.convs.{number}.weight"] = (f"{convs}.{number}.conv.weight",)
        names |= _both(f"backbone.embed.{stream}.norms.{number}", f"{norms}.{number}")
    return names


def _blocks(config: LocalizerConfig, ours: str, theirs: str, count: int) -> Names:
    names: Names = {}
    for number in range(count):
        names |= _block(config, f"{ours}.{number}", f"{theirs}.{number}")
    return names


def _block(config: LocalizerConfig, ours: str, theirs: str) -> Names:
    names: Names = {}
    for mine, other in _BLOCK.items():
        names |= _both(f"{ours}.{mine}", f"{theirs}.{other}")
    for part in ("query", "key", "value"):
        names[f"{ours}.attention.{part}_conv.weight"] = (f"{theirs}.attn.{part}_conv.conv.weight",)
    if config.branch == "cross":
        names |= _both(f"{ours}.norm", f"{theirs}.ln11") | _both(f"{ours}.norm_query", f"{theirs}.ln12")
    else:
        names |= _both(f"{ours}.norm", f"{theirs}.ln1")
    if config.layer_scale is not None:
        names[f"{ours}.drop_attention.scale"] = (f"{theirs}.drop_path_attn.scale",)
        names[f"{ours}.drop_mlp.scale"] = (f"{theirs}.drop_path_mlp.scale",)
    return names


def _heads(config: LocalizerConfig) -> Names:
    names: Names = {}
    for ours, theirs, last in (("class_head", "cls_head", "cls_head"), ("boundary_head", "reg_head", "offset_head")):
        for number in range(config.head.layers - 1):
            names[f"{ours}.trunk.convs.{number}.weight"] = (f"{theirs}.head.{number}.conv.weight",)
            names |= _both(f"{ours}.trunk.norms.{number}", f"{theirs}.norm.{number}")
        names |= _both(f"{ours}.last", f"{theirs}.{last}.conv")
    return names
