"""Operations and memory of a computation, counted while it runs on torch's fake tensors, which have shapes but no numbers.

Operations are those of matrix products, convolutions and attention, two per multiply-add, as torch's `FlopCounterMode` counts them.
Norms, softmax, activation functions and products with a single vector are left out, as is usual for model FLOPs (Chowdhery et al. 2022,
"PaLM", appendix B). The backward pass of fused attention computes its scores again: five products beside the two of the forward pass.

Memory is what live tensors take, without an allocator's rounding and the workspace of kernels. The counts hold for any device that runs
torch's operators one by one (eager mode) and keeps attention fused; `torch.compile` merges many of the small ones. The CPU does not fuse
attention with dropout, so that its scores are counted as kept although a GPU does not keep them.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop_count, sdpa_flop_count

from tasks.core.engine.fake import GpuCasts, fake, fake_copy, run_operator
from tasks.core.profile import observing

VIEWS = {"alias", "as_strided", "detach", "diagonal", "empty", "empty_like", "empty_strided", "expand", "lift_fresh", "new_empty"}
VIEWS |= {"new_empty_strided", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold"}
VIEWS |= {"unsqueeze", "view", "_unsafe_view", "_reshape_alias"}
GATHERS = {"gather", "index", "index_select"}
CASTS = {"_to_copy"}

MODEL, COPIES = "model", "16-bit weights"
"""Parts of a ledger: what no span names, and parameters in another precision."""


@dataclass(frozen=True)
class Launch:
    """One operator: the part that it belongs to, bytes it read and wrote, operations."""

    part: str
    bytes: int
    flops: int


class Ledger(TorchDispatchMode):
    """Counts what happens inside a `with` block, in a `FakeTensorMode`.

    It can observe spans (`core.profile.observing`): operations and tensors then belong to the innermost span in which they are made.

    Attributes:
        live, peak: bytes of the tensors that are there, and the most there were since `restart`.
        launches: every operator that did more than look at a tensor in another way, since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        _count_kernels_of_the_cpu()
        self.live = 0
        self._storages: dict[int, tuple[int, str]] = {}
        self._parameters: set[int] = set()
        self._open: list[str] = []
        self.restart()

    def restart(self) -> None:
        """Counts from here on; what is live stays so."""
        self.peak = self.live
        self.launches: list[Launch] = []

    @property
    def kernels(self) -> int:
        return len(self.launches)

    @property
    def bytes(self) -> int:
        """Read and written by all operators."""
        return sum(launch.bytes for launch in self.launches)

    @property
    def flops(self) -> int:
        return sum(launch.flops for launch in self.launches)

    def flops_by_part(self) -> Counter[str]:
        """Operations of every part that has any."""
        counts: Counter[str] = Counter()
        for launch in self.launches:
            counts[launch.part] += launch.flops
        return +counts

    def live_by_part(self) -> Counter[str]:
        """Bytes of the live tensors by the part that made them."""
        counts: Counter[str] = Counter()
        for size, part in self._storages.values():
            counts[part] += size
        return +counts

    def least_s(self, flops_per_s: float, bytes_per_s: float) -> float:
        """Seconds that no device of these rates can go below, operator by operator."""
        return sum(max(launch.bytes / bytes_per_s, launch.flops / flops_per_s) for launch in self.launches)

    def mark_parameters(self, module: nn.Module) -> None:
        """Copies of these parameters in another precision belong to the part `COPIES`."""
        self._parameters |= {parameter.untyped_storage()._cdata for parameter in module.parameters()}

    def enter(self, name: str) -> None:
        self._open.append(name)

    def leave(self) -> None:
        self._open.pop()

    def turn_into(self, name: str) -> None:
        """Nothing: parts of a backward pass are not told apart."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name, part = operator._overloadpacket.__name__, self._open[-1] if self._open else MODEL
        made = run_operator(operator, args, kwargs)
        written = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        copies = name in CASTS and args[0].untyped_storage()._cdata in self._parameters
        for tensor in written:
            self._watch(tensor.untyped_storage(), COPIES if copies else part)
        if name not in VIEWS and written:
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            touched = written * 2 if name in GATHERS else {id(tensor): tensor for tensor in (*read, *written)}.values()
            formula = flop_registry.get(operator._overloadpacket)
            flops = formula(*args, **kwargs, out_val=made) if formula else 0
            self.launches.append(Launch(part, sum(tensor.numel() * tensor.element_size() for tensor in touched), flops))
        return made

    def _watch(self, storage: torch.UntypedStorage, part: str) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages[key] = size, part
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.live -= self._storages.pop(key)[0]


def _count_kernels_of_the_cpu() -> None:
    """Teaches torch's counter of operations the CPU's kernels of attention, which it knows from 2.15 on, of LSTMs, and products that are
    added in place."""
    for suffix, formula, shapes in (("", sdpa_flop_count, 3), ("_backward", sdpa_backward_flop_count, 4)):
        _teach(f"_scaled_dot_product_flash_attention_for_cpu{suffix}", lambda *args, f=formula, n=shapes: f(*args[:n]))
    _teach("addmm_", lambda total, first, second: 2 * prod(first) * second[1])
    for suffix, times in (("", 1), ("_backward", 2)):
        _teach(f"mkldnn_rnn_layer{suffix}", lambda x, *weights, k=times: k * 2 * prod(x[:2]) * sum(map(prod, weights[:2])))


def _teach(name: str, formula: Callable[..., int]) -> None:
    """`formula` of the shapes of the positional arguments, where torch has none of its own."""
    kernel = getattr(torch.ops.aten, name)
    if kernel not in flop_registry:
        register_flop_formula(kernel)(lambda *args, **_: formula(*args))


@contextmanager
def counting() -> Iterator[Ledger]:
    """A ledger of what happens inside, where tensors are fake. Of real ones that come in only shape and dtype are used."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), Ledger() as ledger, observing(ledger), GpuCasts():
        yield ledger


def count_macs(run: nn.Module | Callable[..., Any], inputs: torch.Tensor | tuple[Any, ...]) -> int:
    """Multiply-adds of a forward pass, half of its floating-point operations. Papers on video often print them as "GFLOPs".

    Args:
        run: a module, in the mode (training or not) that it is in, or a function.
        inputs: its argument, or a tuple of its arguments; of tensors only shape and dtype matter. A module and its inputs may be on the
            meta device. Modules that a function uses are not copied: they and its inputs must be on one device, and a batch norm in
            training mode counts its batches.
    """
    with counting() as ledger, torch.no_grad():
        if isinstance(run, nn.Module):
            run, inputs = fake_copy(run), fake(inputs)
        ledger.restart()
        run(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    return ledger.flops // 2


def count_call(build: Callable[[], Callable[[], None]], warmup: int = 1) -> Ledger:
    """The ledger of one call of the function that `build` makes, after `warmup` others; everything happens inside `counting`."""
    with counting() as ledger:
        step = build()
        for _ in range(warmup):
            step()
        ledger.restart()
        step()
    return ledger
