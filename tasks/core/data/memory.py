"""Whether a machine has room for what is to be kept in its memory."""

import os

from tasks.core.errors import UsageError


def require_memory(needed: int, hint: str) -> None:
    """Raises UsageError where `needed` bytes are more than nine tenths of the free memory, or of the free shared memory.

    Args:
        needed: bytes.
        hint: how to need less.
    """
    places = {"memory": os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")} if hasattr(os, "sysconf") else {}
    if os.path.isdir("/dev/shm"):
        shared = os.statvfs("/dev/shm")
        places["shared memory (/dev/shm)"] = shared.f_bavail * shared.f_frsize
    for place, free in places.items():
        if needed > 0.9 * free:
            raise UsageError(f"preloading needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of {place} are free", hint)
