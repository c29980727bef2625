"""Accelerate's object of a training run, and what is compiled."""

import ctypes
import os
import sys

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env

from tasks.core.engine.config import TrainConfig
from tasks.core.engine.run import Run
from tasks.core.engine.sharding import own_preparation
from tasks.core.errors import UsageError


def make_accelerator(train: TrainConfig, run: Run | None = None, uneven: bool = False) -> Accelerator:
    """The Accelerator of a training run: bf16 on CUDA unless told otherwise, TensorBoard where asked for.

    Args:
        uneven: some parameters get no gradient in some backward passes (methods with phases).
    """
    precision = train.precision
    if precision == "auto":
        on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
        precision = "fp32" if on_cpu else "fp16" if os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp16" else "bf16"
    with own_preparation():
        accelerator = Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            log_with="tensorboard" if train.tensorboard else None,
            project_dir=str(run.folder) if run else None,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=uneven)],
        )
    if accelerator.distributed_type.value in ("DEEPSPEED", "MEGATRON_LM"):
        raise UsageError(
            f"training under {accelerator.distributed_type.value} is not supported yet", "choose MULTI_GPU or FSDP in: accelerate config"
        )
    if accelerator.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    elif accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Blocks of up to 1 GiB (32 MiB where the library takes no more) that a step frees stay with the process, for the next step, instead
    of being returned and faulted in anew.

    On the C library of most Linux systems only; settings that the user made in the environment are left alone.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and (library.mallopt(M_MMAP_THRESHOLD, 2**30) or library.mallopt(M_MMAP_THRESHOLD, 2**25)):
        library.mallopt(M_TRIM_THRESHOLD, 2**30)


def compile_regions(module: torch.nn.Module) -> None:
    """Compiles every submodule that says it may be (`compile_region = True`: transformer blocks, losses), one graph for all alike.

    Shapes are fixed: an encoder's and a decoder's blocks get a graph each instead of one slower for any shape.
    """
    torch._dynamo.config.recompile_limit = max(16, torch._dynamo.config.recompile_limit)
    for part in module.modules():
        if getattr(part, "compile_region", False):
            part.compile(dynamic=False)
