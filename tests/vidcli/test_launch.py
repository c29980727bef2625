import json
import os
import subprocess
import sys

import pytest

from tasks.core.errors import UsageError
from vidcli import accelerate_file, launch

PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def test_workers_get_the_arguments_without_the_number_of_processes():
    given = ["pretrain", "--processes", "2", "--data", "x", "--gpus=4", "--json"]
    assert launch.worker_arguments(given) == ["pretrain", "--data", "x", "--json"]


def test_a_worker_knows_what_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vid", "pretrain", "--data", "a b"])
    monkeypatch.delenv(launch.TYPED, raising=False)
    assert launch.typed() == ["pretrain", "--data", "a b"]
    monkeypatch.setattr(launch, "_supervise", lambda line, environment, folder: monkeypatch.setenv(launch.TYPED, environment[launch.TYPED]))
    launch.relaunch(["pretrain", "--data", "a b", "--processes", "2"], 2, None)
    assert launch.typed() == ["pretrain", "--data", "a b", "--processes", "2"]


def test_the_first_failure_is_the_exit_code(tmp_path):
    for rank, code in (("2", 3), ("0", 1), ("1", 0)):
        (tmp_path / f"{rank}.code").write_text(str(code))
        stamp = {"2": 1, "0": 2, "1": 3}[rank]
        os.utime(tmp_path / f"{rank}.code", (stamp, stamp))
    assert launch.exit_codes(tmp_path) == [3, 1, 0]


def test_srun_is_translated_and_a_batch_script_is_not(monkeypatch):
    for name in PLACE:
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


def test_one_task_per_node_starts_workers_and_a_task_per_gpu_does_not(monkeypatch):
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "1", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    for name, value in {**step, "MASTER_ADDR": "first", "MASTER_PORT": "20001"}.items():
        monkeypatch.setenv(name, value)
    for name in PLACE[:4]:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setattr(accelerate_file, "find", lambda: None)
    launch.join_slurm()
    assert launch.in_world()
    assert launch.starts_here()
    words = " ".join(launch.launch_line(["pretrain"], 8, cpu=False))
    for asked in ("--num_processes 16", "--num_machines 2", "--machine_rank 1", "--main_process_ip first", "--main_process_port 20001"):
        assert asked in words
    with launch.world_of(8):
        assert os.environ["WORLD_SIZE"] == "16"
    assert os.environ["WORLD_SIZE"] == "2"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # a worker of that launcher
    assert not launch.starts_here()
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert not launch.starts_here()


FILES = {
    "none": (None, 2, True, {"nproc_per_node": "2"}, {"ACCELERATE_MIXED_PRECISION": "no"}),
    "one-gpu-and-cpu": ({"distributed_type": "NO", "gpu_ids": "0", "mixed_precision": "fp16"}, 2, True, {"nproc_per_node": "2"}, {}),
    "fsdp-and-cpu": ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}}, 2, True, {"use_fsdp": False}, {}),
    "fp16": (
        {"distributed_type": "MULTI_GPU", "mixed_precision": "fp16"},
        4,
        False,
        {"multi_gpu": True},
        {"ACCELERATE_MIXED_PRECISION": "fp16"},
    ),
    "gpus": ({"distributed_type": "MULTI_GPU", "gpu_ids": "1,3"}, 2, False, {"gpu_ids": "1,3"}, {"CUDA_VISIBLE_DEVICES": "1,3"}),
    "fsdp": (
        {"distributed_type": "FSDP", "mixed_precision": "bf16", "fsdp_config": {"fsdp_version": 2, "fsdp_reshard_after_forward": False}},
        2,
        False,
        {"use_fsdp": True},
        {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "false", "ACCELERATE_MIXED_PRECISION": "bf16"},
    ),
    "machines": (
        {"distributed_type": "MULTI_GPU", "num_machines": 2, "machine_rank": 1, "main_process_ip": "10.0.0.1", "main_process_port": 29511},
        4,
        False,
        {"nnodes": "2", "nproc_per_node": "4", "node_rank": 1, "rdzv_endpoint": "10.0.0.1:29511"},
        {},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_accelerate_understands_the_line_and_its_file_is_respected(tmp_path, monkeypatch, name):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    content, processes, cpu, arguments, variables = FILES[name]
    for variable in ("HF_HOME", "VID_CACHE", accelerate_file.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if content:
        (tmp_path / "accelerate.yaml").write_text(json.dumps({"compute_environment": "LOCAL_MACHINE", "num_processes": 7, **content}))
        monkeypatch.setenv(accelerate_file.VARIABLE, str(tmp_path / "accelerate.yaml"))
    line = launch.launch_line(["pretrain", "--data", "x"], processes, cpu)
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(line[3:]))
    told = prepare_multi_gpu_env(args)
    assert (args.training_script, args.training_script_args) == ("vidcli", ["pretrain", "--data", "x"])
    assert args.multi_gpu or args.use_fsdp
    assert {key: getattr(args, key) for key in arguments} == arguments
    assert {key: told.get(key) for key in variables} == variables
    if cpu:
        assert told.get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(accelerate_file.VARIABLE, raising=False)
    monkeypatch.delenv("VID_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert accelerate_file.find() is None
    usual, own = tmp_path / "cache/huggingface/accelerate/default_config.yaml", tmp_path / "home/accelerate/default_config.yaml"
    for file in (usual, own):
        file.parent.mkdir(parents=True)
        file.write_text("")
    assert accelerate_file.find() == own
    monkeypatch.delenv("HF_HOME")
    assert accelerate_file.find() == usual
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "vid"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "vid/huggingface"))  # as `vid` sets it
    assert accelerate_file.find() == usual
    monkeypatch.setenv(accelerate_file.VARIABLE, str(tmp_path / "nowhere.yaml"))
    with pytest.raises(UsageError, match="does not exist"):
        accelerate_file.find()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distributed_type: DEEPSPEED", "DEEPSPEED is not supported"),
        ("distributed_type: MULTI_GPU\nmixed_precision: fp8", "mixed_precision is fp8"),
        ("distributed_type: MULTI_GPU\nnum_machines: 2", "no main_process_ip"),
        ("distributed_type: MULTI_GPU\nnum_machines: many", "num_machines is 'many'"),
        ("distributed_type: MULTI_GPU\ngpu_ids: '0,1'", "names 2"),
        ("distributed_type: []", "it has no distributed_type"),
        ("distributed_type: MULTI_GPU\nnum_machines: true", "num_machines is True"),
        ("distributed_type: MULTI_GPU\nnum_machines: 2\nmachine_rank: 2\nmain_process_ip: 10.0.0.1", "machine_rank is 2 of 2"),
        ("a: [", "cannot be read"),
        ("- 1", "not a configuration of accelerate"),
        ("!!python/object/apply:os.getpid []", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_respected_is_said(tmp_path, monkeypatch, text, message):
    (tmp_path / "x.yaml").write_text(text)
    monkeypatch.setenv(accelerate_file.VARIABLE, str(tmp_path / "x.yaml"))
    with pytest.raises(UsageError, match=message):
        launch.launch_line([], 4, cpu=False)


def test_more_gpus_than_there_are(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="GPUs found here: 1"):
        launch.relaunch(["pretrain"], None, 2)


def test_two_processes_end_with_the_code_of_the_workers():
    script = "import sys; from vidcli import launch; sys.exit(launch.relaunch(['presets', 'show', 'nowhere'], 2, None))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("unknown preset 'nowhere'") == 1
    assert "Traceback" not in done.stderr


def test_the_printed_line_can_be_pasted(tmp_path):
    """With a file of `accelerate config` for one GPU, and words that a shell would take apart."""
    (tmp_path / "accelerate.yaml").write_text("distributed_type: 'NO'\ngpu_ids: '0'\nnum_processes: 1\n")
    env = {**os.environ, accelerate_file.VARIABLE: str(tmp_path / "accelerate.yaml"), "OMP_NUM_THREADS": "1"}
    script = "import sys; from vidcli import launch; sys.exit(launch.relaunch(['config', 'show', '--preset', 'masked/tats-tiny', '--set', "
    script += "\"init=it's $HOME\", '--json'], 2, None))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = [text.removeprefix("launching: ") for text in done.stderr.splitlines() if text.startswith("launching: ")]
    pasted = subprocess.run(line, shell=True, executable="/bin/bash", cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert pasted.returncode == 0, pasted.stderr
    assert pasted.stdout == done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_file_that_accelerate_does_not_understand_is_one_line_and_exit_2(tmp_path):
    (tmp_path / "x.yaml").write_text("distributed_type: MULTI_GPU\nbogus_key: 3")
    script = "import sys; from vidcli import launch; sys.exit(launch.relaunch(['presets', 'list'], 2, None))"
    env = {**os.environ, accelerate_file.VARIABLE: str(tmp_path / "x.yaml")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("launching: ")]
    assert line.startswith("error: accelerate cannot launch: ")
    assert "bogus_key" in line


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"SLURM_STEP_NUM_TASKS": "abc"}, "SLURM_STEP_NUM_TASKS is 'abc'"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID is missing"),
    ],
)
def test_variables_that_srun_did_not_set(monkeypatch, step, message):
    for name in (*PLACE, *(name for name in os.environ if name.startswith("SLURM_"))):
        monkeypatch.delenv(name, raising=False)
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        launch.join_slurm()
    assert not launch.in_world()
