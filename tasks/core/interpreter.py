"""Processes of this program: how Python is started anew, and for how many there are cores."""

import os
import sys


def same_modules() -> dict[str, str]:
    """Environment in which another Python finds the modules that this one finds; `-c` and `-m` put the working folder before them, where a
    person's own `tasks.py` may stand.
    """
    return {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), "PYTHONSAFEPATH": "1"}


def usable_cores() -> int:
    """Cores that this process may use: those a batch system gave it, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
