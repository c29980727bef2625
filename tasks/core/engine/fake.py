"""Tensors without numbers: modules that hold them, what stands in for numbers that a program asks for, and the casts of a GPU."""

import copy
from collections.abc import Iterator
from math import prod
from types import FunctionType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

HALVES = (torch.bfloat16, torch.float16)


def fake(value: Any) -> Any:
    """Fake CPU tensors in place of all tensors of a nested value; inside a `FakeTensorMode`."""
    return tree_map(lambda leaf: _fake(leaf) if isinstance(leaf, torch.Tensor) else leaf, value)


def fake_copy(module: nn.Module) -> nn.Module:
    """A copy of a module, wherever it was built, with fake CPU tensors; inside a `FakeTensorMode`. No weight is copied."""
    return copy.deepcopy(module, {id(tensor): _fake(tensor) for tensor in _tensors(module, set())})


def _fake(tensor: torch.Tensor) -> torch.Tensor:
    made = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad)


def _tensors(value: Any, met: set[int]) -> Iterator[torch.Tensor]:
    """Every tensor that an object holds, in lists and in other objects too."""
    if id(value) in met or isinstance(value, (type, ModuleType, FunctionType)):
        return
    met.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
        return
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    for part in (*inside, *(vars(value).values() if hasattr(value, "__dict__") else ())):
        yield from _tensors(part, met)


def run_operator(operator: Any, args: tuple, kwargs: dict) -> Any:
    """The operator on fake tensors. Where numbers would decide about the result, zero stands in for a number, and of what could be chosen
    everything is.
    """
    name = operator._overloadpacket.__name__
    if name == "_local_scalar_dense":
        kind = args[0].dtype
        return False if kind == torch.bool else 0.0 if kind.is_floating_point else 0
    if name == "nonzero":
        return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.int64)
    if name == "masked_select":
        return args[0].new_empty(prod(torch.broadcast_shapes(args[0].shape, args[1].shape)))
    if name == "bincount":
        return args[0].new_empty((*args, *kwargs.values())[-1])  # `minlength`
    if name == "index":
        args = (args[0], [column for index in args[1] for column in _columns(index)])
    return operator(*args, **kwargs)


def _columns(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """The whole numbers that choose all of what a mask could choose; another index as it is."""
    masks = index is not None and index.dtype == torch.bool
    return [index.new_empty(index.numel(), dtype=torch.int64) for _ in range(index.ndim)] if masks else [index]


def _functions(*names: str) -> set[Any]:
    return {getattr(space, name) for space in (torch, torch.Tensor, F) for name in names if hasattr(space, name)}


class GpuCasts(TorchFunctionMode):
    """Makes CPU autocast compute in float32 what CUDA's does, where it decides about memory (torch documentation, "CUDA Ops that can
    autocast to float32").
    """

    TAKE = _functions(
        "layer_norm", "group_norm", "normalize", "norm", "exp", "log", "pow", "rsqrt", "softplus", "cdist", "cosine_similarity"
    )
    TAKE |= _functions("cross_entropy", "nll_loss", "kl_div", "mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits")
    GIVE = _functions("softmax", "log_softmax", "softmin", "sum", "cumsum", "prod")

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu"):
            if function in self.TAKE:
                args, kwargs = tree_map(_full, (args, kwargs))
            elif function in self.GIVE and args and args[0].dtype in HALVES and kwargs.get("dtype") is None:
                kwargs = {**kwargs, "dtype": torch.float32}
        return function(*args, **kwargs)


def _full(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, torch.Tensor) and leaf.dtype in HALVES else leaf
