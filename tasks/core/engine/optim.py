"""Parameter groups and optimizers."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from tasks.core.engine.config import OptimConfig

Group = dict


def decayed(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: matrices only; never biases, norms, position embeddings or learned tokens."""
    return parameter.ndim > 1 and not name.endswith(("pos_embed", "_token", "position"))


def layer_scale(layer: int, n_layers: int, decay: float) -> float:
    """Learning-rate factor of a layer: layer 0 is the patch embedding, 1..n_layers the blocks, n_layers + 1 the head (factor 1).

    Table 5.7 of the thesis with decay 0.75 and 12 blocks: 0.75 ** (13 - layer).
    """
    return decay ** (n_layers + 1 - layer)


def make_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    layer_of: Callable[[str], int] | None = None,
    n_layers: int = 0,
    layer_decay: float = 1.0,
) -> list[Group]:
    """Groups parameters by (layer, decay). Frozen parameters are left out.

    Each group carries `lr_scale`, which the loop multiplies with the schedule.
    """
    groups: dict[tuple[int, bool], Group] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        layer = layer_of(name) if layer_of else n_layers + 1
        key = (layer, decayed(name, parameter))
        if key not in groups:
            groups[key] = {
                "params": [],
                "weight_decay": weight_decay if key[1] else 0.0,
                "lr_scale": layer_scale(layer, n_layers, layer_decay),
                "name": f"layer{layer}{'' if key[1] else '-no-decay'}",
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def make_optimizer(groups: list[Group], config: OptimConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer a config names, over ready groups; fused kernels on CUDA and the CPU."""
    fused = device.type in ("cuda", "cpu")
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(groups, lr=config.base_lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.base_lr, betas=config.betas, eps=config.eps, fused=fused)


def moments(config: Any) -> int:
    """Numbers that the optimizer of a configuration keeps of each weight."""
    return 1 if getattr(config.optim, "name", "adamw") == "sgd" else 2


def checkpoint_bytes(parameters: int, trained: int, config: Any, best: bool = False) -> int:
    """What a checkpoint takes: weights, what the optimizer keeps of the trained ones, an average and the best weights where there are."""
    return 4 * (parameters * (1 + bool(config.train.ema) + best) + trained * moments(config))
