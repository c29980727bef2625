"""The process `vid`: `python -m vidcli` and the console script; the launcher of several processes starts workers this way."""

import atexit
import os
import sys
import threading
from typing import NoReturn

from vidcli.app import main


def run() -> NoReturn:
    """Runs the command line of this process and ends it with the command's exit code."""
    end(main())


def end(code: int) -> NoReturn:
    """Ends the process as the interpreter would, but without tearing down its modules.

    Threads are waited for, exit functions run and streams are flushed. Left out is the destruction of libraries' objects in no certain
    order: a native thread that still runs then aborts the process ("terminate called without an active exception") after its work is done.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, or closed, or nobody reads it
            code = code or 120 * (stream is sys.stdout)
    os._exit(code)


if __name__ == "__main__":
    run()
