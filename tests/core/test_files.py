"""Files that appear whole or not at all, and what a disk that refuses them says."""

import errno
import os
import pickle
import resource

import pytest

from tasks.core.errors import UsageError
from tasks.core.files import cannot_write, follow_umask, make_folder, replacing, write_json, write_text


@pytest.fixture
def small():
    """No file may grow beyond 4096 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, small):
    path = tmp_path / "a" / "notes.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="File too large") as full:
        write_text(path, "new " * 5000)
    assert full.value.filename == str(path)
    assert pickle.loads(pickle.dumps(full.value)).errno == errno.EFBIG  # it may have to travel from a process of its own
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["notes.txt"]


def test_a_failure_leaves_nothing(tmp_path):
    def fail() -> None:
        with replacing(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "x.json", tmp_path / "file" / "y" / "x.json"):
        with pytest.raises(UsageError, match="cannot write"):
            write_json(place, {})
        with pytest.raises(UsageError, match="cannot write to"):
            make_folder(place)


def test_what_counts_as_a_disk_that_refuses(tmp_path):
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        assert cannot_write(OSError(number, os.strerror(number))) == os.strerror(number)
    assert cannot_write(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert cannot_write(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    (tmp_path / "folder").mkdir()
    with pytest.raises(SafetensorError) as refused:
        save_file({}, tmp_path / "folder" / "missing" / "x")
    assert cannot_write(refused.value) is None


def test_torch_and_safetensors_on_files_that_may_not_grow(tmp_path, small):
    import torch
    from safetensors.torch import save_file

    for save in (torch.save, save_file):
        with pytest.raises(Exception, match=r".") as refused:
            save({"a": torch.ones(10_000)}, tmp_path / "x")
        assert cannot_write(refused.value), refused.value


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_of_libraries_follow_the_umask(tmp_path, mask, mode):
    import torch
    from safetensors.torch import save_file

    from tasks.core.checkpoint import save_model

    before = os.umask(mask)
    try:
        config = {"task": "classify", "architecture": {}}
        save_model(tmp_path / "model", {"a": torch.zeros(2)}, config, "card")
        (tmp_path / "checkpoint" / "deep").mkdir(parents=True)
        save_file({"a": torch.zeros(2)}, tmp_path / "checkpoint" / "deep" / "model.safetensors")
        (tmp_path / "checkpoint" / "tool.sh").touch(0o700)
        follow_umask(tmp_path / "checkpoint")
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()}
    assert modes.pop("tool.sh") == mode | 0o700  # what could be run still can
    assert set(modes) == {"model.safetensors", "config.json", "README.md"}
    assert set(modes.values()) == {mode}
