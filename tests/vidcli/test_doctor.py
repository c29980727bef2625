"""`vid doctor --slurm` in a job that is made up: variables, and programs that stand in for those of SLURM."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from vidcli import cluster

SQUEUE = """#!/bin/sh
[ "$*" = "--noheader --job 77 --format %L" ] && echo {left}
"""
SCONTROL = """#!/bin/sh
case "$1 $2" in
  "show job") echo "JobId=77 Requeue={requeue} Restarts=0" ;;
  "write batch_script") printf '#!/bin/bash\\n#SBATCH --nodes=2\\n{script}\\nsrun vid pretrain\\n' ;;
  "show hostnames") echo {first}; echo second ;;
esac
"""
JOB = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NTASKS": "16"}
JOB |= {"SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cleared(monkeypatch, tmp_path):
    """No variable of SLURM or of a world, a Hub that answers at once, an empty PATH; returns the folder on it."""
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "VID_WORKERS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/bin{os.pathsep}/usr/bin")
    return programs


@pytest.fixture
def in_job(cleared, monkeypatch):
    """Puts this process into a job: programs answer as told."""

    def enter(left="1-02:03:04", requeue=1, script="#SBATCH --signal=USR1@300", first="127.0.0.1", **variables):
        texts = {"squeue": SQUEUE.format(left=left), "scontrol": SCONTROL.format(requeue=requeue, script=script, first=first)}
        for name, text in {**texts, "sbatch": "", "srun": ""}.items():
            (cleared / name).write_text(text)
            (cleared / name).chmod(0o755)
        for name, value in {**JOB, **variables}.items():
            monkeypatch.setenv(name, value)

    return enter


def rows_of(part, *given):
    return {row["name"]: row for row in getattr(cluster, part)(*given)}


def test_outside_of_a_job_nothing_is_wrong(cleared, tmp_path, vid):
    code, out, err = vid("doctor", "--slurm", "--folder", tmp_path / "runs" / "new", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert rows["sbatch"]["state"] == "missing"
    assert rows["job"]["state"] == "none"
    assert rows["MASTER_ADDR"]["state"] == "127.0.0.1 = 127.0.0.1"
    assert rows["lock"]["state"] == "works"
    assert rows["network"]["level"] == "warning"
    assert "export HF_HUB_OFFLINE=1" in err
    assert not (tmp_path / "runs").exists()
    assert not any(path.name.startswith(".vid") for path in tmp_path.iterdir())
    code, out, _ = vid("doctor", "--slurm", "--folder", tmp_path)
    assert code == 0
    assert out.splitlines()[0].split() == ["part", "name", "state", "note"]


def test_a_job_as_it_should_be(in_job):
    in_job(first="localhost", MASTER_ADDR="192.0.2.7", SLURM_CPUS_PER_TASK="1")
    rows = rows_of("job")
    assert rows["nodes"]["state"] == "2"
    assert (rows["gpus"]["state"], rows["gpus"]["level"]) == ("8 on this node", "ok")
    assert rows["time left"]["state"] == "26:03:04"
    assert cluster.time_left("77") == 26 * 3600 + 3 * 60 + 4
    assert rows_of("world")["MASTER_ADDR"]["state"] == "192.0.2.7 = 192.0.2.7"
    told = rows_of("signals")
    assert (told["before the end"]["state"], told["requeue"]["state"]) == ("USR1@300", "yes")
    assert {row["level"] for row in told.values()} == {"ok"}


@pytest.mark.parametrize(
    ("given", "part", "name", "level", "words"),
    [
        ({"SLURM_NTASKS": "4"}, "job", "gpus", "warning", "ask for --ntasks-per-node=8"),
        ({"SLURM_NTASKS": "2"}, "job", "gpus", "ok", "--gpus 8 uses them all"),
        ({}, "job", "tasks", "warning", "put srun before it"),
        ({"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "3"}, "job", "tasks", "ok", "this is process 3"),
        (
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "0"},
            "job",
            "tasks",
            "ok",
            "with --gpus N vid starts N processes on each",
        ),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "70"}, "job", "job", "ok", "--shard"),
        ({"left": "4:59"}, "job", "time left", "warning", "too short"),
        ({"left": "UNLIMITED"}, "job", "time left", "ok", ""),
        ({"script": ""}, "signals", "before the end", "warning", "#SBATCH --signal=USR1@300"),
        ({"script": "#SBATCH --signal=INT@60"}, "signals", "before the end", "warning", "listens to USR1 and TERM"),
        ({"requeue": 0}, "signals", "requeue", "warning", "#SBATCH --requeue"),
        ({"first": "127.0.0.1"}, "world", "MASTER_ADDR", "error", "cannot reach a loopback address"),
        ({"first": "no-such-host.invalid"}, "world", "MASTER_ADDR", "error", "cannot be resolved"),
        ({"SLURM_CPUS_PER_TASK": "4096"}, "limits", "cores", "warning", "srun lost them"),
        ({"VID_WORKERS": "4096"}, "limits", "cores", "warning", "VID_WORKERS is 4096"),
        ({"OMP_NUM_THREADS": "4096"}, "limits", "OMP_NUM_THREADS", "warning", "more than the"),
    ],
)
def test_what_is_found_in_a_job(in_job, monkeypatch, given, part, name, level, words):
    if given.get("first", "").endswith(".invalid"):  # no question leaves this machine
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-2, "unknown")))
    in_job(**given)
    row = rows_of(part)[name]
    assert (row["level"], words in row["note"]) == (level, True), row


def test_an_error_is_the_exit_code(in_job, tmp_path, vid):
    in_job(first="127.0.0.1")
    code, _, err = vid("doctor", "--slurm", "--folder", tmp_path)
    assert code == 1
    assert "error: MASTER_ADDR: 127.0.0.1 = 127.0.0.1" in err
    assert "hint: the other nodes cannot reach a loopback address: set MASTER_ADDR" in err


def test_threads_that_nobody_limited(in_job, monkeypatch):
    in_job()
    monkeypatch.delenv("OMP_NUM_THREADS")
    row = rows_of("limits")["OMP_NUM_THREADS"]
    assert (row["state"], row["level"]) == ("not set", "warning")


def as_started(folder, variables=None, blocked=()):
    """`vid doctor --slurm` in a process of its own, with signals that whoever started it has blocked: (exit code, rows, stderr)."""
    words = [sys.executable, "-m", "vidcli", "doctor", "--slurm", "--folder", folder, "--json"]
    block = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # noqa: E731
    env = {**os.environ, **(variables or {})}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, preexec_fn=block)
    return done.returncode, {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}, done.stderr


def test_signals_that_something_took_away(cleared, tmp_path):
    code, rows, err = as_started(tmp_path, blocked=(signal.SIGUSR1,))
    assert (code, rows["TERM, USR1"]["state"]) == (0, "blocked: SIGUSR1"), err
    assert "warning: TERM, USR1: blocked: SIGUSR1: something before vid blocks them" in err
    assert rows_of("signals")["TERM, USR1"]["state"] == "heard"


STEP = {**JOB, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]"}


def test_a_step_whose_first_node_cannot_be_found(cleared, tmp_path):
    """It says so in a row; other commands end there. Only the first task prints the table."""
    first = {**STEP, "PATH": str(cleared), "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    code, rows, err = as_started(tmp_path, first)
    assert (code, rows["MASTER_ADDR"]["level"]) == (1, "error"), err
    assert "set MASTER_ADDR before srun" in rows["MASTER_ADDR"]["note"]
    assert rows["tasks"]["state"] == "2"
    assert as_started(tmp_path, {**first, "SLURM_PROCID": "1", "SLURM_NODEID": "1"})[:2] == (1, {})
    words = [sys.executable, "-m", "vidcli", "presets", "list"]
    other = subprocess.run(words, env={**os.environ, **first}, capture_output=True, text=True, timeout=60)
    assert (other.returncode, other.stderr.splitlines()[-1]) == (2, "hint: set MASTER_ADDR before srun")


def test_few_files_and_little_shared_memory(cleared, monkeypatch):
    usage = cluster.shutil.disk_usage("/")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (cluster.FILES - 1, 4096))
    monkeypatch.setattr(cluster.shutil, "disk_usage", lambda _: usage._replace(total=64 * 2**20, free=2**20))
    rows = rows_of("limits")
    assert (rows["open files"]["state"], rows["open files"]["level"]) == (str(cluster.FILES - 1), "warning")
    if "/dev/shm" in rows:
        assert rows["/dev/shm"]["level"] == "warning"
    assert rows_of("storage", cluster.Path.cwd())["free"]["level"] == "warning"


def test_a_folder_without_locks_and_one_that_cannot_be_written(cleared, tmp_path, monkeypatch, vid):
    def refused(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(cluster.fcntl, "flock", refused)
    assert rows_of("storage", tmp_path)["lock"]["level"] == "warning"
    monkeypatch.setattr(cluster.fcntl, "flock", lambda *_: None)  # both get it: no lock at all
    assert rows_of("storage", tmp_path)["lock"]["level"] == "warning"
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    code, _, err = vid("doctor", "--slurm", "--folder", tmp_path / "file" / "runs")
    assert code == 1
    assert "choose another --out" in err


def test_models_in_the_cache_are_counted(tmp_path):
    for name in ("models--a--b", "models--c--d"):
        (tmp_path / "hub" / name).mkdir(parents=True)
    code = "import json; from vidcli import cluster; print(json.dumps(list(cluster.hub())))"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    cache, network = json.loads(done.stdout)
    assert cache["note"] == "2 repositories"
    assert network["state"] == "not asked"


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"HF_ENDPOINT": "nonsense"}, "HF_ENDPOINT is not an address"),
        ({"HF_ENDPOINT": "https://me:secret@127.0.0.1:99999999"}, "HF_ENDPOINT is not an address"),
        ({"HF_ENDPOINT": "http://127.0.0.1:{closed}"}, "127.0.0.1 does not answer"),
        ({"HF_ENDPOINT": "http://127.0.0.1:{open}"}, "127.0.0.1 answers"),
        ({"HF_ENDPOINT": "http://hub.invalid", "http_proxy": "127.0.0.1:{open}"}, "127.0.0.1, the proxy to hub.invalid, answers"),
        ({"HF_ENDPOINT": "http://hub.invalid", "http_proxy": "http://:x"}, "the proxy to hub.invalid does not answer"),
    ],
)
def test_the_way_to_the_hub(monkeypatch, given, state):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.socket() as listening, socket.socket() as closed:
        for each in (listening, closed):
            each.bind(("127.0.0.1", 0))
        listening.listen()
        ports = {"open": listening.getsockname()[1], "closed": closed.getsockname()[1]}
        for name, value in given.items():
            monkeypatch.setenv(name, value.format(**ports))
        row = rows_of("hub")["network"]
    assert row["state"] == state
    assert row["level"] == ("ok" if "answers" in state else "warning")


def test_a_folder_that_is_not_there_yet_is_said_and_belongs_to_slurm(cleared, tmp_path, vid):
    assert f"{tmp_path}/typo is not there yet" in rows_of("storage", tmp_path / "typo")["write, rename"]["note"]
    assert "not there" not in rows_of("storage", tmp_path)["write, rename"]["note"]
    code, _, err = vid("doctor", "--folder", tmp_path)
    assert code == 2
    assert "belongs to --slurm" in err
