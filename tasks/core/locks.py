"""Locks on folders that several processes may write, for as long as one holds them; a killed process leaves none."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tasks.core.errors import UsageError
from tasks.core.reporter import Reporter

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Of network file systems that are mounted without locks."""


def hold(path: Path, what: str, reporter: Reporter) -> IO[str]:
    """Locks `path`, whose folder is made, until what is returned is closed. Says so where the file system has no locks.

    Args:
        what: that another process may be writing, e.g. `the run folder X`.

    Raises:
        UsageError: another process holds the lock, or the file cannot be written.
    """
    file = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 - held until the caller closes it
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UsageError(f"another process is writing to {what}", "wait for it, or choose another --out") from None
    except OSError as error:
        if file is None or error.errno not in _NO_LOCKS:
            if file is not None:
                file.close()
            raise UsageError(f"cannot write to {what}: {error.strerror}", "choose another --out") from None
        reporter.warn(f"the file system of {path.parent} has no locks: see to it that no other process writes there")
    return file


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock `path`, and holds it; no lock where the file system has none."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
