"""A `vid` that kills itself with SIGKILL in the middle of training; run as `python killed.py FOLDER STEP ARGUMENTS...`."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_until_killed(folder: Path, step: int, *arguments: Any) -> None:
    """Runs `vid ARGUMENTS` in a process of its own, which dies when step `step` has been logged in the run folder `folder` and its
    checkpoint has not been written; asserts that it came to that.
    """
    tree = str(Path(__file__).parents[1])
    command = [sys.executable, __file__, str(folder.resolve()), str(step), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": tree}, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr


def main(folder: str, step: str, *arguments: str) -> int:
    from tasks.core.engine.run import Run
    from vidcli.app import main as vid

    log = Run.log_metrics

    def log_and_die(run: Run, **values: Any) -> None:
        log(run, **values)
        if values["step"] == int(step) and run.folder.resolve() == Path(folder):
            os.kill(os.getpid(), signal.SIGKILL)

    Run.log_metrics = log_and_die
    return vid(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
