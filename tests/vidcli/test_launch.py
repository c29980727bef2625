import os
import signal
import subprocess
import sys
import time

import pytest

from tasks.core.errors import UsageError
from vidcli import launch


def test_workers_get_the_arguments_without_the_number_of_processes():
    given = ["pretrain", "--processes", "2", "--data", "x", "--gpus=4", "--json"]
    assert launch.worker_arguments(given) == ["pretrain", "--data", "x", "--json"]


def test_the_first_failure_is_the_exit_code(tmp_path):
    for rank, code in (("2", 3), ("0", 1), ("1", 0)):
        (tmp_path / f"{rank}.code").write_text(str(code))
        stamp = {"2": 1, "0": 2, "1": 3}[rank]
        os.utime(tmp_path / f"{rank}.code", (stamp, stamp))
    assert launch.exit_codes(tmp_path) == [3, 1, 0]


def test_srun_is_translated_and_a_batch_script_is_not(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    batch = {"SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    for name, value in batch.items():
        monkeypatch.setenv(name, value)
    launch.join_slurm()
    assert not launch.in_world()
    for name, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    launch.join_slurm()
    found = {name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")}
    assert found == {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"}
    assert 20000 <= int(os.environ["MASTER_PORT"]) < 40000


def test_a_dry_run_counts_as_one_of_many(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with launch.world_of(4):
        assert os.environ["WORLD_SIZE"] == "4"
    assert "WORLD_SIZE" not in os.environ


def test_more_gpus_than_there_are(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="GPUs found here: 1"):
        launch.relaunch(["pretrain"], None, 2)
    with pytest.raises(UsageError, match="give one of them"):
        launch.relaunch(["pretrain"], 2, 2)


WORKER = """
import signal, sys, time
from vidcli import launch
launch.join()
def stop(number, frame):
    sys.exit(launch.leave(75))
signal.signal(signal.SIGTERM, stop)
(launch.Path(sys.argv[1]) / "ready").write_text("")
time.sleep(30)
"""


def test_a_signal_reaches_the_workers_and_their_code_comes_back(tmp_path):
    script = "import sys; from pathlib import Path; from vidcli import launch; import os\n"
    script += "sys.exit(launch._supervise([sys.executable, '-c', sys.argv[2], sys.argv[1]], "
    script += "{**os.environ, launch.EXIT_DIR: sys.argv[1]}, Path(sys.argv[1])))"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), WORKER])
    deadline = time.monotonic() + 20
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 75


def test_two_processes_end_with_the_code_of_the_workers(tmp_path):
    script = "import sys; from vidcli import launch; sys.exit(launch.relaunch(['presets', 'show', 'nowhere'], 2, None))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("unknown preset 'nowhere'") == 1
    assert "accelerate.commands.launch --multi_gpu --num_processes 2" in done.stderr
    assert "Traceback" not in done.stderr
