"""Tensors of TorchScript archives, read without their code."""

import pickle
import zipfile

import pytest
import torch
from torch import nn

from tasks.core.errors import InputError
from tasks.core.torchscript import is_torchscript, read_torchscript


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("count", torch.arange(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.Sequential(Inner(), nn.LayerNorm(4))
        self.turned = nn.Parameter(torch.randn(4, 3).T)
        self.sizes = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.parts(x)


@pytest.fixture
def archive(tmp_path):
    torch.manual_seed(0)
    module = Outer().half()
    torch.jit.save(torch.jit.script(module), tmp_path / "a.pt")
    return tmp_path / "a.pt", module.state_dict()


def test_all_tensors_by_their_names(archive):
    file, expected = archive
    assert is_torchscript(file)
    found = read_torchscript(file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in expected)


def test_traced_archives_too(tmp_path):
    module = Inner()
    torch.jit.save(torch.jit.trace(module, torch.randn(2, 3)), tmp_path / "t.pt")
    assert torch.equal(read_torchscript(tmp_path / "t.pt")["linear.weight"], module.linear.weight)


def test_no_code_is_needed(archive):
    """What the archive says of its code may be anything."""
    file, expected = archive
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(file.with_name("b.pt"), "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"not even Python (" if "/code/" in entry.filename else old.read(entry))
    assert read_torchscript(file.with_name("b.pt")).keys() == expected.keys()


def test_a_state_dict_is_none(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "s.pt")
    assert not is_torchscript(tmp_path / "s.pt")
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 and then nothing")
    assert not is_torchscript(tmp_path / "x.pt")
    assert not is_torchscript(tmp_path / "none.pt")


class Harmful:
    def __reduce__(self):
        import os

        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(Harmful(), 2), "asks for (posix|nt).system"),
        (pickle.dumps({"a": 1}, 2), "holds no module"),
        (b"\x80\x02c__torch__\nX\n)\x81X", "not a readable"),
        (b"", "not a readable"),
    ],
)
def test_other_pickles(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("h.pt", "w") as file:
        file.writestr("h/constants.pkl", b"")
        file.writestr("h/data.pkl", content)
    with pytest.raises(InputError, match=said):
        read_torchscript(tmp_path / "h.pt")
    assert not (tmp_path / "harmed").exists()


def test_damaged_archives(archive):
    file, _ = archive
    for name, change in (("short", lambda data: data[:-8]), ("gone", None)):
        bad = file.with_name(f"{name}.pt")
        with zipfile.ZipFile(file) as old, zipfile.ZipFile(bad, "w") as new:
            for entry in old.infolist():
                if "/data/" not in entry.filename:
                    new.writestr(entry.filename, old.read(entry))
                elif change:
                    new.writestr(entry.filename, change(old.read(entry)))
        with pytest.raises(InputError, match="not a readable TorchScript archive"):
            read_torchscript(bad)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(file.with_name("c.pt"), "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(InputError, match="compressed"):
        read_torchscript(file.with_name("c.pt"))
