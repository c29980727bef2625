"""Books of a computation that is not run: memory, kernels, bytes and operations, on torch's fake tensors, which have shapes but no numbers.

Counts stand for any device that runs torch's operators one by one (eager mode) and keeps attention fused; `torch.compile` joins many of the
small ones. Peak memory is what live tensors take, without an allocator's rounding and the workspace of kernels.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop_count, sdpa_flop_count

VIEWS = {"alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "lift_fresh", "new_empty"}
VIEWS |= {"new_empty_strided", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold"}
VIEWS |= {"unsqueeze", "view", "_unsafe_view", "_reshape_alias"}
GATHERS = {"gather", "index", "index_select"}


def count_attention() -> None:
    """Teaches torch's counter of operations the attention kernels of the CPU, which it knows from 2.15 on."""
    for suffix, formula, shapes in (("", sdpa_flop_count, 3), ("_backward", sdpa_backward_flop_count, 4)):
        kernel = getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{suffix}")
        if kernel not in flop_registry:
            register_flop_formula(kernel)(lambda *args, formula=formula, shapes=shapes, **_: formula(*args[:shapes]))


class Ledger(TorchDispatchMode):
    """Counts what happens inside a `with` block, in a `FakeTensorMode`.

    Attributes:
        live, peak: bytes of the tensors that are there, and the most there were since `restart`.
        kernels, bytes, flops: launched operators, bytes they read and wrote, operations of matrix products, since `restart`.
        parts: bytes and operations of every launch.
    """

    def __init__(self) -> None:
        super().__init__()
        count_attention()
        self.live = 0
        self._storages: dict[int, int] = {}
        self.restart()

    def restart(self) -> None:
        """Counts from here on; what is live stays so."""
        self.peak = self.live
        self.parts: list[tuple[int, int]] = []

    @property
    def kernels(self) -> int:
        return len(self.parts)

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.parts)

    @property
    def flops(self) -> int:
        return sum(operations for _, operations in self.parts)

    def least_s(self, flops_per_s: float, bytes_per_s: float) -> float:
        """Seconds that no device of these rates can go below, operator by operator."""
        return sum(max(size / bytes_per_s, operations / flops_per_s) for size, operations in self.parts)

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = operator(*args, **(kwargs or {}))
        written = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        for tensor in written:
            self._watch(tensor.untyped_storage())
        name = operator._overloadpacket.__name__
        if name not in VIEWS and written:
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            touched = written * 2 if name in GATHERS else {id(tensor): tensor for tensor in (*read, *written)}.values()
            formula = flop_registry.get(operator._overloadpacket)
            operations = formula(*args, **(kwargs or {}), out_val=made) if formula else 0
            self.parts.append((sum(tensor.numel() * tensor.element_size() for tensor in touched), operations))
        return made

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.live -= self._storages.pop(key)


def faked(module: nn.Module) -> nn.Module:
    """A module that was built on the meta device with fake CPU tensors in place of its own; inside a `FakeTensorMode`."""
    for part in module.modules():
        for owned in (part._parameters, part._buffers):
            for name, tensor in owned.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    owned[name] = nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
    return module


def book(build: Callable[[], Callable[[], None]], warmup: int = 2) -> Ledger:
    """The books of one call of the function that `build` makes, after `warmup` others; both see fake tensors only."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), Ledger() as ledger:
        step = build()
        for _ in range(warmup):
            step()
        ledger.restart()
        step()
    return ledger
