"""`vid slurm` with a queue that is a script on the PATH."""

import os
import stat
import subprocess

import pytest

from vidcli.batch import Job, script


def test_the_file_asks_for_what_was_asked(vid):
    code, out, _ = vid(
        "slurm", "--gpus", "8", "--nodes", "4", "--time", "11:00:00", "--account", "lab", "--setup", "module load python", "--sbatch",
        "--constraint=h100", "--no-check", "--", "pretrain", "--preset", "masked/tats-tiny", "--data", "my videos.csv", "--out", "runs/x",
    )  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "#!/bin/bash"
    wanted = {
        "nodes=4",
        "ntasks-per-node=8",
        "gpus-per-node=8",
        "time=11:00:00",
        "account=lab",
        "signal=USR1@300",
        "requeue",
        "constraint=h100",
    }
    assert wanted <= {line.removeprefix("#SBATCH --") for line in lines}
    assert "module load python" in lines
    assert "srun --kill-on-bad-exit=0 vid pretrain --preset masked/tats-tiny --data 'my videos.csv' --out runs/x" in lines
    assert not any("array" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no command"),
        (["--", "pretrain", "--gpus", "8"], "second launcher"),
        (["--array", "4", "--", "pretrain"], "at once"),
        (["--array", "4", "--", "doctor"], "does not share"),
        (["--array", "4", "--", "data", "index", "videos", "-o", "all.csv"], "vid data index does not share"),
        (["--array", "4", "--", "data", "import", "some.json", "-o", "all.csv"], "vid data import does not share"),
        (["--gpus", "2", "--", "detect-boundaries", "x"], "one process"),
    ],
)
def test_contradictions(vid, arguments, words):
    code, out, err = vid("slurm", *arguments)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    "command",
    [["data", "check", "all.csv"], *([name, "x"] for name in ("detect-anomalies", "detect-boundaries", "gen-pseudo", "extract-features"))],
)
def test_commands_that_share_their_inputs(vid, command):
    code, out, err = vid("slurm", "--array", "4", "--no-check", "--", *command)
    assert (code, "#SBATCH --array=0-3" in out.splitlines()) == (0, True), err


def tool(folder, name, text):
    path = folder / name
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


@pytest.mark.parametrize(("ending", "requeued"), [(0, False), (75, True), (3, False)])
@pytest.mark.parametrize("array", [None, 3])
def test_a_preempted_job_requeues_itself_and_no_other(tmp_path, ending, requeued, array):
    """The file is run by bash, as a node would, with an srun, a vid and an scontrol that leave notes."""
    tool(tmp_path, "srun", '[[ "$1" == --kill* ]] && shift; exec "$@"\n')
    tool(tmp_path, "vid", f'echo "$@" > {tmp_path}/called; env > {tmp_path}/env; exit {ending}\n')
    tool(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/requeued\n')
    verb = "detect-boundaries" if array else "pretrain"
    (tmp_path / "job.sh").write_text(script([verb, "a b.mp4"], Job("x", array=array)))
    queue = {"SLURM_JOB_ID": "41", "SLURM_CPUS_PER_TASK": "6"} | ({"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2"} if array else {})
    done = subprocess.run(["bash", tmp_path / "job.sh"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **queue}, cwd=tmp_path)
    assert done.returncode == ending
    assert (tmp_path / "called").read_text() == f"{verb} a b.mp4\n"
    assert {"OMP_NUM_THREADS=6", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=300"} <= set((tmp_path / "env").read_text().splitlines())
    if requeued:
        assert (tmp_path / "requeued").read_text() == f"requeue {'40_2' if array else '41'}\n"
    else:
        assert not (tmp_path / "requeued").exists()


def test_submitting(tmp_path, vid, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    code, _, err = vid("slurm", "--submit", "--no-check", "--", "pretrain", "--preset", "masked/tats-tiny")
    assert (code, "no sbatch" in err) == (2, True)
    tool(tmp_path, "sbatch", f'cat "$1" > {tmp_path}/handed; echo "Submitted batch job 7"\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    code, out, _ = vid("slurm", "--submit", "--no-check", "--", "pretrain", "--preset", "masked/tats-tiny")
    assert (code, out) == (0, "Submitted batch job 7\n")
    assert "srun" in (tmp_path / "handed").read_text()
    tool(tmp_path, "sbatch", "echo 'invalid partition' >&2; exit 1\n")
    code, _, err = vid("slurm", "--submit", "--no-check", "--", "pretrain")
    assert (code, "invalid partition" in err) == (2, True)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["pretrain", "--preset", "masked/tats-tinny", "--data", "x.csv"], "did you mean 'masked/tats-tiny'"),
        (["pretrain", "--preset", "masked/tats-tiny", "--data", "nowhere.csv"], "nowhere.csv: no such file"),
        (["detect-boundaries", "x", "--writ", "csv"], "no such option: --writ"),
        (["pretrian"], "Did you mean 'pretrain'"),
    ],
)
def test_a_command_that_would_stop_at_once_is_not_written(vid, monkeypatch, command, told):
    code, out, err = vid("slurm", "--", *command)
    assert (code, out) == (2, "")
    assert told in err
    assert "--no-check" in err


def test_a_command_that_can_run_is_written(vid):
    code, out, _ = vid("slurm", "--array", "2", "--", "detect-boundaries", "archive/", "--out", "found")
    assert (code, "srun --kill-on-bad-exit=0 vid detect-boundaries archive/ --out found" in out.splitlines()) == (0, True)
