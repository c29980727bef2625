"""Training whose parameters, gradients and optimizer states are split over the processes (FSDP2, Zhao et al. 2023).

A layer's whole weights exist only while it computes. Checkpoints have the files of a run that is not split, so a run may go on either way.
Accelerate's own preparation takes one optimizer only and no CPU; it still gives the world, the precision and the launcher.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env
from torch import nn

from tasks.core.engine.config import TrainConfig
from tasks.core.engine.method import Method
from tasks.core.errors import UsageError

FSDP_FLAG = "ACCELERATE_USE_FSDP"
MODEL_FILE = "model.safetensors"


def fsdp_enabled(train: TrainConfig) -> bool:
    """Whether `train.shard` or an `accelerate config` for FSDP asks for it."""
    return train.shard or parse_flag_from_env(FSDP_FLAG)


@contextmanager
def own_preparation() -> Iterator[None]:
    """Inside, Accelerate does not know of FSDP."""
    with mock.patch.dict("os.environ", {FSDP_FLAG: "false"}):
        yield


class Shards:
    """Splits a method over the world in place, before its optimizers are made.

    Args:
        method: with the same weights in every process; stays callable as before, and `full_copy` is a whole copy of it on the CPU.

    Raises:
        UsageError: a setting or method that cannot be split.
    """

    def __init__(self, method: Method, accelerator: Accelerator, train: TrainConfig):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        _check(method, accelerator, train)
        self.method, self.accelerator = method, accelerator
        self.optimizers: list[torch.optim.Optimizer] = []
        self.full_copy = copy.deepcopy(method)
        method.to(accelerator.device)
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        for unit in units(method):
            fully_shard(unit, mesh=mesh)
        fully_shard(method, mesh=mesh)

    def prepared(self, optimizers: list[torch.optim.Optimizer]) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
        """The method under the run's precision and the optimizers of its split weights, which belong to a checkpoint."""
        self.optimizers = [self.accelerator.prepare_optimizer(optimizer) for optimizer in optimizers]
        return self.accelerator.prepare_model(self.method, device_placement=False, evaluation_mode=True), self.optimizers

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Inside, gradients stay in each process."""
        self.method.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.method.set_requires_gradient_sync(True)

    def gather_full(self) -> nn.Module:
        """`full_copy` with the present weights; called by all processes together."""
        self.full_copy.to("cpu").load_state_dict({name: whole_tensor(tensor) for name, tensor in self.method.state_dict().items()})
        return self.full_copy

    def save(self, folder: Path) -> None:
        """Writes weights and optimizer states as Accelerate's `save_state` does; called by all processes together, of which one ever has
        them whole.
        """
        from safetensors.torch import save_file

        kept = whole_tensor if self.accelerator.is_main_process else join_gather
        weights = {name: kept(tensor) for name, tensor in self.method.state_dict().items()}
        states = [_mapped(optimizer.state_dict(), kept) for optimizer in self.optimizers]
        if self.accelerator.is_main_process:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / MODEL_FILE, metadata={"format": "pt"})
            for name, state in zip(optimizer_files(len(states)), states, strict=True):
                torch.save(state, folder / name)

    def load(self, folder: Path) -> None:
        """The reverse, from the folder of a run that was split or not."""
        from safetensors.torch import load_file

        weights = load_file(folder / MODEL_FILE)
        with torch.no_grad():
            for name, tensor in self.method.state_dict().items():
                tensor.copy_(_like(weights[name], tensor))
        for name, optimizer in zip(optimizer_files(len(self.optimizers)), self.optimizers, strict=True):
            saved = torch.load(folder / name, map_location="cpu", weights_only=True)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state = {
                number: {key: _like(v, parameters[number]) if _shaped_like(v, parameters[number]) else v for key, v in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})


def units(method: nn.Module) -> list[nn.Module]:
    """What is gathered and given back by itself: the blocks that stand in lists; the rest belongs to the method's own unit."""
    lists = [part for part in method.modules() if isinstance(part, nn.ModuleList)]
    return [block for part in lists for block in part if getattr(block, "compile_region", False)]


def optimizer_files(count: int) -> list[str]:
    """Accelerate's names."""
    return [f"optimizer{f'_{number}' if number else ''}.bin" for number in range(count)]


def whole_tensor(value: Any) -> Any:
    """A split tensor as a whole one on the CPU, by all processes together; other tensors on the CPU; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().cpu()


def join_gather(value: Any) -> None:
    """This process' part in `whole_tensor`."""
    whole_tensor(value)


def _like(value: torch.Tensor, split: torch.Tensor) -> torch.Tensor:
    """A whole tensor cut up as another is."""
    if not hasattr(split, "device_mesh"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(split.device), split.device_mesh, split.placements)


def _shaped_like(value: Any, parameter: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape == parameter.shape


def _mapped(state: dict[str, Any], change: Any) -> dict[str, Any]:
    """An optimizer's state with every tensor in it changed."""
    return {**state, "state": {n: {k: change(v) for k, v in values.items()} for n, values in state["state"].items()}}


def _check(method: Method, accelerator: Accelerator, train: TrainConfig) -> None:
    if accelerator.num_processes == 1:
        raise UsageError("train.shard splits a model over processes, and this run has one", "add --gpus N, or set train.shard=false")
    if not method.shardable:
        raise UsageError("train.shard: this method changes weights outside of its optimizers and is not split", "set train.shard=false")
    if train.ema:
        raise UsageError("train.shard and train.ema do not go together: the average is a whole second model", "set train.ema=null")
    if accelerator.mixed_precision == "fp16":
        raise UsageError("train.shard needs bf16 or fp32", "set train.precision=bf16")
