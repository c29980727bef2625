"""The process between `vid` and its workers: Accelerate's launcher, which says in one line what it would say in a page of traceback."""

import logging
import signal
import sys


def main() -> int:
    """Starts the workers that the arguments of Accelerate's launcher describe.

    Returns:
        0; 1 where a worker did not end by itself; 2 for a file of `accelerate config` that it does not understand.
    """
    from accelerate.commands.launch import main as launch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.WARNING)  # what it does to workers that do not end is told by their exit codes
    try:
        launch()
    except ValueError as error:  # of its own settings, before any worker has begun
        sys.stderr.write(f"error: accelerate cannot launch: {' '.join(str(error).split())}\n")
        return 2
    except SignalException:  # `vid` has told it to end the workers
        return 1
    except ChildFailedError as error:
        for rank, failure in sorted(error.failures.items()):
            sys.stderr.write(f"error: process {rank} of this run {ending(failure.exitcode)}\n")
        sys.stderr.write("hint: run the same command again to continue\n")
        return 1
    return 0


def ending(code: int) -> str:
    """How a process ended, from its exit code (negative: a signal) to words."""
    if code >= 0:
        return f"ended with exit code {code}"
    known = {number.value for number in signal.Signals}
    return f"was killed ({signal.Signals(-code).name if -code in known else f'signal {-code}'})"


if __name__ == "__main__":
    sys.exit(main())
