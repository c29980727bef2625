"""Plain data from pickles: containers, numbers, text and numpy arrays. Nothing that a pickle names is imported or called."""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core.errors import InputError, UsageError


def read_pickle(data: bytes, path: str | Path) -> Any:
    """The data in a pickle; numpy arrays come out as lists, numpy scalars as Python's.

    Raises:
        UsageError: the pickle asks for anything else, which is named.
        InputError: it is damaged.
    """
    try:
        return _Unpickler(data, path).load()
    except (UsageError, InputError):
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path}: not a readable pickle: {type(error).__name__}: {error}") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: str | Path):
        super().__init__(io.BytesIO(data), encoding="latin1")  # of Python 2's strings, which may hold the bytes of arrays
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if stand_in := _STAND_INS.get(f"{module}.{name}"):
            return stand_in
        raise UsageError(
            f"{self.path}: the pickle asks for {module}.{name}; only plain data and numpy arrays are read from pickles",
            "if you trust the file, convert it to JSON with the program that wrote it",
        )


class _StandIn:
    """Stands for a function or class that a pickle names; it can be called and nothing else."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]):
        self.make = make

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function cannot be changed")


class _Dtype:
    """A numpy dtype of numbers or text, as pickled: code and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any):
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|U\d{1,4}", code):
            raise InputError(f"a pickled array of type '{code}': only arrays of numbers and text are read")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", ">", "|"):
            raise pickle.UnpicklingError("unknown byte order")
        self.order = state[1]

    def values(self, data: bytes | bytearray | str, shape: tuple, fortran: bool = False) -> Any:
        """`data` as nested lists of `shape`; a number or text for shape ()."""
        raw = np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, np.dtype(self.order + self.code))
        if any(type(n) is not int or n < 0 for n in shape) or raw.size != math.prod(shape):
            raise pickle.UnpicklingError("an array's data does not fit its shape")
        return raw.reshape(shape, order="F" if fortran else "C").tolist()


class _Array(list):
    """A numpy array as a list: pickles make an empty one and fill it afterwards."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, fortran, data = state
        values = dtype.values(data, shape, fortran)
        self[:] = values if shape else [values]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("unexpected encoding")
    return text.encode("latin1")


def _stand_ins() -> dict[str, _StandIn]:
    makers: dict[str, Callable[..., Any]] = {
        "numpy.dtype": _Dtype,
        "numpy.ndarray": _Array,
        "_codecs.encode": _latin1,  # bytes in protocols 0 to 2
        "__builtin__.bytes": lambda: b"",
        "collections.OrderedDict": OrderedDict,
    }
    for builtins in ("builtins", "__builtin__"):
        makers |= {f"{builtins}.set": set, f"{builtins}.frozenset": frozenset}
    for core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
        makers[f"{core}.multiarray._reconstruct"] = lambda *_: _Array()
        makers[f"{core}.multiarray.scalar"] = lambda dtype, data: dtype.values(data, ())
        makers[f"{core}.numeric._frombuffer"] = lambda data, dtype, shape, order: dtype.values(data, shape, order == "F")
    return {name: _StandIn(make) for name, make in makers.items()}


_STAND_INS = _stand_ins()
