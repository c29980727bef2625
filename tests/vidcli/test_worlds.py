"""Worlds started as a user starts them: srun on one node and on two, torchrun, a printed launch line; one process is the reference."""

import os
import subprocess
import sys

import pytest
import toy_world
from worlds import free_port


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder, videos, variables with srun on the PATH, losses of one process)."""
    folder = tmp_path_factory.mktemp("place")
    programs = toy_world.write_programs(folder / "bin")
    env = toy_world.environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}", VID_CACHE=str(folder / "cache"))
    videos = toy_world.write_videos(folder / "videos")
    started = run(toy_world.command(videos, folder / "one", 8), env)
    assert started.returncode == 0, started.stderr
    return folder, videos, env, toy_world.losses(folder / "one")


def run(words, env):
    env = {**env, "MASTER_PORT": str(free_port())}
    return subprocess.run([str(word) for word in words], env=env, capture_output=True, text=True, timeout=200)


def test_srun_on_one_node(place):
    folder, videos, env, expected = place
    done = run(["srun", "--nodes", 1, "--ntasks-per-node", 2, *toy_world.command(videos, folder / "srun", 4)], env)
    assert done.returncode == 0, done.stderr
    assert toy_world.world_of(folder / "srun") == 2
    assert toy_world.losses(folder / "srun") == pytest.approx(expected, rel=1e-5)
    assert done.stderr.count("run folder: ") == 1


def test_two_nodes_with_a_launcher_each(place):
    """One task per node, as `sbatch --nodes 2 --ntasks-per-node 1`: each starts its own workers, all meet at the first node."""
    folder, videos, env, expected = place
    command = toy_world.command(videos, folder / "nodes", 2, "--processes", "2")
    done = run(["srun", "--nodes", 2, "--ntasks-per-node", 1, *command], env)
    assert done.returncode == 0, done.stderr
    assert toy_world.world_of(folder / "nodes") == 4
    assert toy_world.losses(folder / "nodes") == pytest.approx(expected, rel=1e-5)
    assert "--num_processes 4 --num_machines 2 --machine_rank 0 --main_process_ip 127.0.0.1" in done.stderr


def test_torchrun(place):
    folder, videos, env, expected = place
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    done = run([*torchrun, *toy_world.command(videos, folder / "torchrun", 4, "--processes", "2")[1:]], env)
    assert done.returncode == 0, done.stderr
    assert toy_world.world_of(folder / "torchrun") == 2
    assert toy_world.losses(folder / "torchrun") == pytest.approx(expected, rel=1e-5)
    assert "launching: " not in done.stderr  # it is in a world already
