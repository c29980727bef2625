"""Signals to a command, its launcher and its workers, and what else keeps a run from going on: exit codes and one clear line."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.core.errors import Preempted
from vidcli import app

TRAIN = ("pretrain", "-p", "toy/small", "--data", "x", "--out")


def strike_in(monkeypatch, action):
    """The toy task does `action` instead of training."""
    monkeypatch.setattr(sys.modules["tasks.toy.verb"], "run", lambda config, run: action(run))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_that_comes_twice_ends_with_its_code(toy, vid, monkeypatch, number, code):
    """As from a queue that tells the process and its parent; the second one finds the command on its way out."""
    explain = app.explain

    def again(error, reporter):
        os.kill(os.getpid(), number)
        return explain(error, reporter)

    monkeypatch.setattr(app, "explain", again)
    strike_in(monkeypatch, lambda run: os.kill(os.getpid(), number))
    found, _, err = vid(*TRAIN, "run")
    assert found == code
    assert err.count("stopped by a signal outside of training; run is as it was") == 1
    assert "Traceback" not in err


def test_a_signal_that_comes_out_as_another_error(toy, vid, monkeypatch):
    """Amid an import it leaves a module half made, and the library stumbles over that."""

    def stumble(run):
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        raise RecursionError("maximum recursion depth exceeded")

    strike_in(monkeypatch, stumble)
    code, _, err = vid(*TRAIN, "run")
    assert (code, "bug" in err, "stopped by a signal" in err) == (75, False, True)


def test_a_signal_before_the_command_has_begun(toy, vid, monkeypatch):
    monkeypatch.setattr(app.launch, "join", lambda: os.kill(os.getpid(), signal.SIGUSR1))
    code, _, err = vid("presets", "list")
    assert (code, "stopped by a signal" in err) == (75, True)


def test_a_run_in_use_is_left_alone(toy, vid):
    (toy / "run").mkdir()
    with open(toy / "run" / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = vid(*TRAIN, "run")
    assert (code, "another process is writing to the run folder run" in err) == (2, True)
    assert vid(*TRAIN, "run")[0] == 0


def test_a_file_in_the_place_of_the_run(toy, vid):
    (toy / "file").write_text("mine")
    for out in ("file", "file/run", "/proc/run"):
        code, _, err = vid(*TRAIN, out)
        assert (code, err.count("\n")) == (2, 2), err


def stop_after_a_step(vid, monkeypatch):
    def stop(run):
        run.log_metrics(kind="train", step=1)
        raise Preempted("stopped")

    with monkeypatch.context() as patched:
        strike_in(patched, stop)
        assert vid(*TRAIN, "run")[0] == 75


def test_edited_settings_are_listed(toy, vid, monkeypatch):
    """Numbers may change in a run that was stopped, shapes not."""
    stop_after_a_step(vid, monkeypatch)
    code, _, err = vid(*TRAIN, "run", "--set", "kind.heads=9", "--set", "train.batch_size=2")
    assert code == 2
    assert "run holds a run with other settings: kind.heads: 4 -> 9; train.batch_size: 8 -> 2" in err
    code, _, err = vid(*TRAIN, "run", "--lr", "0.5")
    assert code == 0
    assert "goes on with other settings: optim.base_lr: 0.001 -> 0.5" in err


def test_a_run_from_before_a_setting_existed_goes_on_with_its_default(toy, vid, monkeypatch):
    stop_after_a_step(vid, monkeypatch)
    saved = yaml.safe_load((toy / "run" / "config.yaml").read_text())
    rate = saved["optim"].pop("base_lr")
    (toy / "run" / "config.yaml").write_text(yaml.safe_dump(saved))
    code, _, err = vid(*TRAIN, "run")
    assert (code, "other settings" in err) == (0, False), err
    assert yaml.safe_load((toy / "run" / "config.yaml").read_text())["optim"]["base_lr"] == rate


def test_a_full_disk_is_no_bug(toy, vid, monkeypatch):
    def full(run):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.folder / "metrics.jsonl"))

    strike_in(monkeypatch, full)
    code, _, err = vid(*TRAIN, "run")
    assert code == 1
    assert "error: No space left on device: run/metrics.jsonl\n" in err
    assert "bug" not in err


def test_the_end_of_another_process_is_no_bug(monkeypatch, capsys):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:8100. GLHF!")
    assert app.explain(lost, app.reset()) == 1
    assert "bug" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert app.explain(lost, app.reset()) == 1
    assert capsys.readouterr().err == "[rank 1] error: another process of this run has ended\n"


def test_a_log_that_cannot_be_written_is_done_without(vid, capsys):
    reporter = app.reset()
    reporter.attach_log(Path("/dev/full"))
    reporter.info("one")
    reporter.info("two")
    reporter.detach_log()
    assert capsys.readouterr().err == "one\ntwo\n"


def test_a_terminal_that_cannot_be_written_to_keeps_the_code():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "vidcli", "pretrain", "--preset", "nothing"], stderr=full, timeout=60)
    assert done.returncode == 2


def test_a_worker_whose_terminal_cannot_be_written_to_keeps_the_code():
    words = [sys.executable, "-m", "vidcli", "data", "check", "nothing"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, env={**os.environ, "RANK": "1"}, stderr=full, timeout=60)
    assert done.returncode == 3


def test_results_are_told_though_nobody_hears_the_talk(monkeypatch, capsys):
    reporter = app.reset()
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", full)
        reporter.info("one")
        reporter.error("two", "three")
        with contextlib.suppress(OSError):
            full.close()
    reporter.text("four")
    assert capsys.readouterr().out == "four\n"


SUPERVISE = """
import os, sys
from pathlib import Path
from vidcli import launch
sys.exit(launch._supervise([sys.executable, "-c", *sys.argv[2:]], {**os.environ, launch.EXIT_DIR: sys.argv[1]}, Path(sys.argv[1])))
"""
WORKER = """
import os, signal, sys
from vidcli import launch
def stop(number, frame):
    sys.exit(launch.leave(75))
signal.signal(signal.SIGUSR1, stop)
os.environ["RANK"] = sys.argv[1]
launch.join()
print("ready", flush=True)
while True:
    signal.pause()
"""
LAUNCHER = """
import subprocess, sys
for rank in "01":  # the second worker starts when the first has been told and has ended
    subprocess.run([sys.executable, "-c", sys.argv[1], rank])
"""


def test_workers_that_start_late_are_told_too(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(tmp_path), LAUNCHER, WORKER], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 75
    assert {path.name: path.read_text() for path in tmp_path.glob("*.code")} == {"0.code": "75", "1.code": "75"}


def test_the_cause_is_told_before_what_it_did_to_the_others(tmp_path):
    """A worker may notice that another is gone before that one has left its code."""
    for rank, code in ((1, 1), (0, 75), (2, 1)):
        (tmp_path / f"{rank}.code").write_text(str(code))
    assert subprocess.run([sys.executable, "-c", SUPERVISE, str(tmp_path), "pass"], timeout=60).returncode == 75


@pytest.mark.parametrize("before", [[], ["nohup"]])
def test_a_launcher_without_workers_ends_at_once(tmp_path, before):
    waits = "print('ready', flush=True); import signal; signal.pause()"
    process = subprocess.Popen([*before, sys.executable, "-c", SUPERVISE, str(tmp_path), waits], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
