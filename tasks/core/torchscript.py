"""The tensors of TorchScript archives (`torch.jit.save`). The code in them is neither run nor compiled, and nothing that they name is
imported.
"""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch

from tasks.core.errors import InputError

_KINDS = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


def is_torchscript(file: Path) -> bool:
    """Whether a file is such an archive; False where it cannot be read."""
    try:
        if not is_zipfile(file):
            return False
        with ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, BadZipFile):
        return False


def read_torchscript(file: Path) -> dict[str, torch.Tensor]:
    """Parameters, buffers and other tensors of the module in an archive, by their dotted names, on the CPU.

    Raises:
        InputError: it is damaged, or asks for what a module with tensors does not need.
    """
    try:
        with ZipFile(file) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).removesuffix("constants.pkl")
            found = _Reader(archive, root).load()
        return dict(_named(found, ""))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # zipfile, pickle and torch raise nearly anything over a damaged file
        raise InputError(
            f"{file} is not a readable TorchScript archive: {(str(error) or type(error).__name__).splitlines()[0]:.120}"
        ) from None


class _Module:
    """Stands for every class of an archive: it takes attributes and does nothing."""

    state: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module without names")
        self.state = state


def _named(module: Any, prefix: str) -> Any:
    if not isinstance(module, _Module):
        raise pickle.UnpicklingError("it holds no module")
    for name, value in module.state.items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _named(value, f"{prefix}{name}.")


class _Reader(pickle.Unpickler):
    def __init__(self, archive: ZipFile, root: str):
        super().__init__(io.BytesIO(_stored(archive, f"{root}data.pkl")))
        self.archive, self.root = archive, root
        self.storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        known = {
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "collections.OrderedDict": OrderedDict,
            **{f"torch.jit._pickle.build_{kind}list": list for kind in ("int", "double", "bool", "tensor")},
            "torch.jit._pickle.restore_type_tag": lambda value, _: value,
        }
        if (asked := f"{module}.{name}") in _KINDS:
            return _KINDS[asked]
        if asked not in known:
            raise InputError(f"{self.archive.filename}: the archive asks for {asked}, which is not needed for weights")
        return known[asked]

    def persistent_load(self, saved: Any) -> torch.Tensor:
        _, kind, key, _, numel = saved
        if key not in self.storages:
            content = bytearray(_stored(self.archive, f"{self.root}data/{key}"))
            self.storages[key] = torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
        if self.storages[key].numel() != numel or self.storages[key].dtype != kind:
            raise pickle.UnpicklingError("a tensor's data does not fit its size")
        return self.storages[key]

    def _tensor(self, storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
        return storage.as_strided(tuple(size), tuple(stride), offset)


def _stored(archive: ZipFile, name: str) -> bytes:
    """An entry; what is compressed is refused, since a small archive could hold any amount of it."""
    if archive.getinfo(name).compress_type != ZIP_STORED:
        raise pickle.UnpicklingError("its entries are compressed")
    return archive.read(name)
