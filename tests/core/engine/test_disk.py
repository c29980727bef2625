"""Disks that are full, closed or without locks, files that are damaged or torn: one clear line, and the last checkpoint still serves."""

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import engine_toy
import pytest
import torch
from small_disk import fill, small_disk
from test_loop import lines

from tasks.core.checkpoint import save_model
from tasks.core.engine.run import read_skipped
from tasks.core.engine.state import Checkpoints, last_state
from tasks.core.errors import Preempted, StorageError, UsageError
from tasks.core.files import cannot_write


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    engine_toy.train(folder, eval_every_epochs=1)
    return lines(folder)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "400k") as place:
        yield place


def stopped(folder: Path, step: int = 3) -> list[str]:
    """Trains up to a signal; the names of the checkpoints."""
    with pytest.raises(Preempted):
        engine_toy.train(folder, eval_every_epochs=1, kill_at=step, number=signal.SIGTERM)
    return checkpoints(folder)


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("free_kib", [8, 44])
def test_a_full_disk_leaves_the_checkpoint_before(disk, whole, free_kib):
    """With 8 KiB torch cannot write its file, with 44 it is one of our own that does not fit."""
    before = stopped(disk / "run")
    filler = fill(disk, free_kib)
    with pytest.raises(StorageError, match=r"checkpoint of step 6 could not be written .*: No space left on device") as full:
        engine_toy.train(disk / "run", eval_every_epochs=1)
    assert full.value.exit_code == 1
    assert checkpoints(disk / "run") == before
    filler.unlink()
    engine_toy.train(disk / "run", eval_every_epochs=1)
    assert lines(disk / "run") == whole


def test_a_disk_that_becomes_read_only(disk, whole):
    before = stopped(disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(UsageError, match=r"cannot write to the run folder .*: Read-only file system"):
        engine_toy.train(disk / "run", eval_every_epochs=1)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert checkpoints(disk / "run") == before
    engine_toy.train(disk / "run", eval_every_epochs=1)
    assert lines(disk / "run") == whole


def test_files_that_may_not_grow(tmp_path, whole):
    """A quota as the system's own limit, which needs no rights."""
    before = stopped(tmp_path / "run")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(StorageError, match="checkpoint of step 6"):
            engine_toy.train(tmp_path / "run", eval_every_epochs=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints(tmp_path / "run") == before
    engine_toy.train(tmp_path / "run", eval_every_epochs=1)
    assert lines(tmp_path / "run") == whole


def test_a_model_that_does_not_fit_leaves_the_one_before(disk):
    config = {"task": "toy", "architecture": {}}
    save_model(disk / "model", {"a": torch.ones(1000)}, config, "card")
    with pytest.raises(Exception, match=r"(?i)no space left|os error 28") as full:
        save_model(disk / "model", {"a": torch.ones(200_000)}, config, "card")
    assert cannot_write(full.value) == os.strerror(errno.ENOSPC)
    assert [path.name for path in disk.iterdir()] == ["model"]
    assert (disk / "model" / "model.safetensors").stat().st_size < 5000


@pytest.mark.parametrize("name", ["notes.txt/run", "notes.txt"])
def test_a_file_where_the_folder_should_be(tmp_path, name):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="cannot write to the run folder"):
        engine_toy.train(tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    trainer, _ = engine_toy.train(tmp_path / "run")
    assert trainer.step == trainer.total


def test_a_byte_of_any_file_of_a_checkpoint(tmp_path, whole):
    before = stopped(tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / before[-1]
    files = sorted(path.name for path in newest.iterdir() if path.name != "DONE")
    assert {"model.safetensors", "optimizer.bin", "ema.pt", "own-0.pt", "state.json", "checksums.json"} <= set(files)
    for name in files:
        copy = tmp_path / name / "checkpoints"
        shutil.copytree(tmp_path / "run" / "checkpoints", copy)
        data = bytearray((copy / newest.name / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / newest.name / name).write_bytes(data)
        assert Checkpoints(copy, 2)._choose() == [before[0], None], name
    state = newest / "state.json"
    state.write_bytes(b"\xff" + state.read_bytes()[1:])
    assert last_state(newest.parent)["step"] == 2
    engine_toy.train(tmp_path / "run", eval_every_epochs=1)
    assert lines(tmp_path / "run") == whole


def test_half_removed_and_half_renamed_checkpoints_are_swept(tmp_path, whole):
    *_, newest = stopped(tmp_path / "run", step=5)  # the first checkpoint of step 6: the evaluation follows when it goes on
    folder = tmp_path / "run" / "checkpoints"
    for name in (f"{newest}.1", "step-00000001", "partial-00000003"):
        shutil.copytree(folder / newest, folder / name)
        (folder / name / "DONE").unlink()
    shutil.copytree(folder / newest, folder / "step-mine")
    engine_toy.train(tmp_path / "run", eval_every_epochs=1)
    assert lines(tmp_path / "run") == whole
    assert checkpoints(tmp_path / "run") == ["step-00000008", "step-00000010.1", "step-mine"]


def test_the_tenth_checkpoint_of_a_step_follows_the_ninth(tmp_path):
    for name in ("step-00000002.9", "step-00000002.10", "step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "DONE").touch()
    assert [path.name for path in Checkpoints(tmp_path, 2).complete()] == ["step-00000001", "step-00000002.9", "step-00000002.10"]


def test_what_a_killed_process_left_is_swept(tmp_path, whole):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yaml.77.tmp").write_text("task: to")  # killed before there was a run
    stopped(folder)
    (folder / ".model.77.tmp").mkdir()
    (folder / ".model.77.tmp" / "model.safetensors").write_bytes(b"half")
    (folder / ".run.json.77.tmp").write_text("{")
    engine_toy.train(folder, eval_every_epochs=1)
    assert lines(folder) == whole
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(("name", "text"), [("config.yaml", "a: ["), ("config.yaml", ""), ("run.json", "[1]"), ("run.json", "{")])
def test_damaged_files_of_a_run_are_named(tmp_path, name, text):
    stopped(tmp_path / "run")
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(UsageError, match=rf"{name} is damaged"):
        engine_toy.train(tmp_path / "run", eval_every_epochs=1, epochs=4)


def test_a_torn_list_of_skipped_videos(tmp_path):
    _, run = engine_toy.train(tmp_path / "run", max_steps=1)
    for torn, known in (("", {}), ("path,reason\n", {}), ("path,reason\na.mp4,torn\nb.mp", {"a.mp4": "torn"})):
        (run.folder / "skipped.csv").write_text(torn)
        assert read_skipped(run.folder / "skipped.csv") == known
        again, _ = engine_toy.train(tmp_path / "run", max_steps=1)
        again.run.skip([("c.mp4", "broken"), ("a.mp4", "torn")], strict=False)
        assert read_skipped(run.folder / "skipped.csv") == {"a.mp4": "torn", "c.mp4": "broken"}
        assert again.run.skipped.keys() == {"a.mp4", "c.mp4"}


def test_skipped_videos_count_as_of_the_checkpoint(tmp_path):
    """One met after the checkpoint is listed already, and counted when it is met again."""
    _, run = engine_toy.train(tmp_path / "run", max_steps=2)
    run.skip([("late.mp4", "broken")], strict=False)
    again, _ = engine_toy.train(tmp_path / "run", max_steps=2)
    assert again.run.skipped == {}
    assert read_skipped(run.folder / "skipped.csv") == {"late.mp4": "broken"}


def test_a_video_that_two_processes_meet_is_listed_once(tmp_path, monkeypatch):
    _, run = engine_toy.train(tmp_path / "run", max_steps=1)
    _, other = engine_toy.train(tmp_path / "run", max_steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for process in (run, other):
        process.skip([("a.mp4", "broken")], strict=False)
    assert (tmp_path / "run" / "skipped.csv").read_text().splitlines() == ["path,reason", "a.mp4,broken"]
    assert run.skipped == other.skipped == {"a.mp4": "broken"}
