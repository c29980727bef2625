"""Python started anew by this program."""

import os
import sys


def same_modules() -> dict[str, str]:
    """Environment in which another Python finds the modules that this one finds; `-c` and `-m` put the working folder before them, where a
    person's own `tasks.py` may stand.
    """
    return {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), "PYTHONSAFEPATH": "1"}
