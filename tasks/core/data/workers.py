"""How loader processes start, what they do about signals, and how they end."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from unittest import mock
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader

from tasks.core.interpreter import same_modules
from tasks.core.signals import HANDLED, signals_blocked

_running: "WeakSet[DataLoader]" = WeakSet()


def worker_context() -> BaseContext:
    """A start method that is safe beside the threads of FFmpeg, OpenMP and CUDA: a fork server that has imported torch once, else spawn.

    The server and all that it forks are born with SIGTERM, SIGINT and SIGUSR1 blocked: a signal to the process group must not take the
    workers away while the main process finishes its step and saves.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.core.clips.loader"])
    with signals_blocked(), mock.patch.dict("os.environ", same_modules()):
        ensure_running()
    return context


def begin_worker(_: int) -> None:
    """Set up a loader process: it ignores the signals that the main process acts upon, one compute thread, gone with the main process."""
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """torch looks at the process above, which is the fork server here, and that stays as long as one it has forked."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(0)


def stop_at_exit(loader: DataLoader) -> None:
    """End the loader's processes before the interpreter waits for them, since they do not listen to SIGTERM."""
    _running.add(loader)


@atexit.register
def _stop_all() -> None:
    for loader in list(_running):
        iterator = getattr(loader, "_iterator", None)
        if iterator is None or sys.is_finalizing():
            continue
        iterator._shutdown_workers()
        for worker in iterator._workers:
            if worker.is_alive():
                worker.kill()
    for child in multiprocessing.active_children():  # of loaders that are no more
        if child.daemon and child._start_method == "forkserver":
            child.kill()
