"""scripts/soak on processes that hang: it ends all of them and tells it."""

import importlib.machinery
import importlib.util
import signal
import sys
from argparse import Namespace
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "scripts" / "soak"
LAUNCHER = """
import subprocess, sys
worker = "import select, sys; print('ready', flush=True); select.select([], [], [], 20); open(sys.argv[1], 'w')"
subprocess.Popen([sys.executable, "-c", worker, sys.argv[1] + ".ended"], start_new_session=True).wait()
"""


@pytest.fixture
def soak(tmp_path, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("soak", str(SOAK))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("soak", loader))
    monkeypatch.setitem(sys.modules, "soak", module)  # its dataclasses look there
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module.Soak(Namespace(toy=True, processes=2, patience=1.0), tmp_path)


def test_a_hang_is_a_finding_and_nothing_goes_on_after_it(soak, tmp_path):
    """The worker has a session of its own, as under a launcher, and holds the pipes; it would end after 20 s."""
    soak.command = [sys.executable, "-c", LAUNCHER, "{out}"]
    done = soak.start(tmp_path / "run", label="never")
    assert not (tmp_path / "run.ended").exists()
    assert done.stderr == "\n(no end within 1.0 s)"
    soak._check_exit(done, signal.SIGKILL, "running", ["a kill"])
    assert [text.splitlines()[0] for text in soak.wrong] == ["hangs after a kill"]
