"""Files that appear whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.core.errors import UsageError

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
_TORCH_CANNOT_WRITE = ("PytorchStreamWriter", "unexpected pos", "iostream error")


def cannot_write(error: BaseException) -> str | None:
    """Why nothing could be written, where a disk is what an error is about: full, closed or failing; else None.

    torch and safetensors report a full disk by errors of their own.
    """
    if isinstance(error, OSError):
        return error.strerror if error.errno in _UNWRITABLE else None
    text = str(error)
    if isinstance(error, RuntimeError) and any(mark in text for mark in _TORCH_CANNOT_WRITE):
        return "No space left on device, or a failing disk"
    if type(error).__name__ == "SafetensorError":
        return next((os.strerror(number) for number in _UNWRITABLE if f"(os error {number})" in text), None)
    return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success it takes the name `path` in one step, on failure it is removed.

    Raises:
        UsageError: there can be no folder for it.
        OSError: with the name `path` where the disk is full or closed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"cannot write {path}: {path.parent} is not a folder", "choose another place") from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary), temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder`; on success it takes its place, on failure it is removed. What was there before is taken away
    last, so that a process killed in between leaves one of the two whole, if by another name.
    """
    folder = folder.resolve()
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{which}tmp") for which in ("", "old."))
    for stale in (new, old):
        shutil.rmtree(stale, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        follow_umask(new)
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(new, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def follow_umask(folder: Path) -> None:
    """Gives every file below a folder at least the permissions that new files get: safetensors writes files for their owner alone."""
    probe = folder / f".{os.getpid()}.mode"
    probe.touch()
    usual = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(PermissionError):  # a hard link to somebody else's file
                path.chmod(path.stat().st_mode & 0o777 | usual)


def make_folder(folder: Path) -> None:
    """Makes a folder for results; UsageError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}", "choose another --out") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {folder}: permission denied", "choose another --out")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
