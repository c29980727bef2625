"""The arrays of one video's features on disk: npz, npy or h5, ours and those that other programs wrote."""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from tasks.core.errors import InputError, UsageError
from tasks.core.files import replacing

FORMATS = ("npz", "npy", "h5")
SUFFIXES = (".npz", ".npy", ".h5", ".hdf5")
LAYOUTS = ("nd", "dn")
MAIN = "features"
TIMES = ".t.npy"
"""npy holds one array: the times go into a second file, whose name ends so."""


class FeatureError(InputError):
    """Features of one video that cannot be used.

    Attributes:
        path: the file, folder or video.
        reason: what is wrong, without the path.
    """

    def __init__(self, path: str | Path, reason: str, hint: str | None = None):
        super().__init__(f"{path}: {reason}", hint)
        self.path, self.reason, self._hint = str(path), reason, hint

    def __reduce__(self):
        return type(self), (self.path, self.reason, self._hint)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> list[Path]:
    """Writes arrays by name into one file of the format that `path` ends with; each file appears whole or not at all.

    Args:
        path: ends with .npz, .npy or .h5; .npy takes `features` and, into a second file, `t`.
        arrays: name -> array.

    Returns:
        the files.
    """
    if path.suffix == ".npy":
        second = path.with_name(path.stem + TIMES)
        files = {path: MAIN, second: "t"}
        for file, name in files.items():
            if name in arrays:
                _write(file, lambda out, name=name: np.save(out, arrays[name]))
        return [file for file, name in files.items() if name in arrays]
    if path.suffix == ".npz":
        _write(path, lambda out: np.savez(out, **arrays))
    else:
        content = io.BytesIO()  # HDF5 reports a full disk in its own words
        with h5py().File(content, "w") as file:
            for name, values in arrays.items():
                file[name] = values
        _write(path, lambda out: out.write(content.getbuffer()))
    return [path]


def _write(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as out:
        write(out)


def read_features(path: Path, key: str | None = None, layout: str = "nd") -> np.ndarray:
    """The features of a file: (n, d) float16, float32 or float64; a view of the file where it is an npy.

    Args:
        path: ends with .npz, .npy, .h5 or .hdf5.
        key: name of the array in a file of several; None: `features`, or the only one.
        layout: `nd`, as they are returned, or `dn`, one column per feature.

    Raises:
        FeatureError: the file cannot be read, or holds something else.
        UsageError: h5py is not installed.
    """
    try:
        values = _READERS[path.suffix](path, key)
    except FileNotFoundError:
        raise FeatureError(path, "no such file") from None
    except FeatureError:
        raise
    except Exception as error:  # zipfile, numpy and h5py raise nearly anything over a damaged file
        if isinstance(error, UsageError | MemoryError):
            raise
        objects = "allow_pickle" in str(error) or "Python objects" in str(error)  # also what numpy says of a file that is not an npy
        why = "not an array, or one of Python objects, which are never read" if objects else _first(error)
        raise FeatureError(path, f"cannot be read ({why})") from None
    if values.ndim != 2:
        raise FeatureError(path, f"has the shape {values.shape}, not two dimensions (features, channels)")
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise FeatureError(path, f"holds {values.dtype}, not numbers in floating point")
    if not values.size:
        raise FeatureError(path, "holds no features")
    return values.T if layout == "dn" else values


def h5py() -> Any:
    """The package h5py; UsageError where it is not installed."""
    try:
        import h5py as package
    except ImportError:
        raise UsageError("features as h5 need the package h5py", "pip install 'vid-suite[h5]', or choose --format npz or npy") from None
    return package


def _read_npy(path: Path, key: str | None) -> np.ndarray:
    return _at_least_2d(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: Path, key: str | None) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        return _at_least_2d(file[_chosen(path, file.files, key)])


def _read_h5(path: Path, key: str | None) -> np.ndarray:
    package = h5py()
    with open(path, "rb") as opened, package.File(opened, "r") as file:
        key = _chosen(path, list(file), key)
        if not isinstance(file.get(key, getlink=True), package.HardLink) or not isinstance(file[key], package.Dataset):
            raise FeatureError(path, f"its '{key}' is a group or a link, not an array")
        if file[key].external or file[key].is_virtual:
            raise FeatureError(path, f"the values of its '{key}' lie in other files, which are not read")
        return _at_least_2d(file[key][()])


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".h5": _read_h5, ".hdf5": _read_h5}


def _at_least_2d(values: np.ndarray) -> np.ndarray:
    """One feature of a whole video as (1, d)."""
    return values[None] if values.ndim == 1 else values


def _chosen(path: Path, names: Iterable[str], key: str | None) -> str:
    names = list(names)
    wanted = key or (names[0] if len(names) == 1 else MAIN)
    if wanted not in names:
        held = ", ".join(sorted(names)) or "nothing"
        raise FeatureError(path, f"has no array '{wanted}': it holds {held}", None if key else "set key to the one that holds the features")
    return wanted


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
