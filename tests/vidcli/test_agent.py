"""What the launcher of several processes says when one of them does not end by itself."""

import signal
import sys
import types

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from vidcli import agent


def failure(rank: int, code: int) -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=7, exitcode=code, error_file="none")


KILLED = ChildFailedError("vid", {1: failure(1, -9), 0: failure(0, 3)})
SAID = "error: process 0 of this run ended with exit code 3\nerror: process 1 of this run was killed (SIGKILL)\n"


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ValueError("unknown keys:\n  x"), 2, "error: accelerate cannot launch: unknown keys: x\n"),
        (None, 0, ""),
        (SignalException("told", signal.SIGHUP), 1, ""),
        (KILLED, 1, f"{SAID}hint: run the same command again to continue\n"),
    ],
)
def test_no_traceback(monkeypatch, capsys, raised, code, said):
    def launch():
        if raised:
            raise raised

    monkeypatch.setattr(agent.logging, "disable", lambda level: None)
    monkeypatch.setitem(sys.modules, "accelerate.commands.launch", types.SimpleNamespace(main=launch))
    assert agent.main() == code
    assert capsys.readouterr().err == said


def test_a_signal_without_a_name():
    assert agent.ending(-99) == "was killed (signal 99)"
