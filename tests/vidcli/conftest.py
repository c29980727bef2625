"""A task of two settings, in memory, and a folder of presets for it; `vid` run in this process."""

import os
import sys
import types
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from tasks.core.config import Config
from tasks.core.errors import Diverged, Preempted
from tasks.registry import TASKS, Task
from vidcli import app, presets


class Plain(Config):
    name: Literal["plain"] = "plain"
    shared: int = 1


class Fancy(Config):
    name: Literal["fancy"] = "fancy"
    shared: int = 2
    heads: int = 8


class Clip(Config):
    exclusive: ClassVar = (("stride_frames", "stride_s"),)
    frames: int = 16
    stride_frames: int | None = None
    stride_s: float | None = None


class Data(Config):
    train: list[str] = Field(default_factory=list)
    val: list[str] = Field(default_factory=list)
    clip: Clip = Clip(stride_frames=4)
    workers: int | None = None
    decoder: Literal["auto", "pyav", "decord"] = "auto"


class Train(Config):
    epochs: int = Field(10, ge=1)
    batch_size: int = 4
    seed: int = 0


class Optim(Config):
    base_lr: float = 1e-3


class ToyConfig(Config):
    data: Data = Data()
    train: Train = Train()
    optim: Optim = Optim()
    kind: Annotated[Plain | Fancy, Field(discriminator="name")] = Fancy()
    init: str | None = None
    visualize: int = 4


def _run(config: ToyConfig, run: Any) -> dict[str, Any]:
    """Epoch counts stand for ways to end."""
    endings = {75: Preempted("stopped", "run me again"), 5: Diverged("loss is nan"), 1: ZeroDivisionError("oops")}
    if config.train.epochs in endings:
        raise endings[config.train.epochs]
    run.reporter.info("training")
    run.finish({"loss": 0.5, "epochs": config.train.epochs})
    return run.result


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """Task `toy` with verb pretrain, its built-in presets in a folder of their own, and the working directory in another."""
    config = types.ModuleType("tasks.toy.config")
    config.CONFIGS = {"pretrain": ToyConfig}
    verb = types.ModuleType("tasks.toy.verb")
    verb.run, verb.plan = _run, lambda config: {"parameters": 7, "epochs": config.train.epochs}
    verb.check = lambda config: None
    for name, module in {"tasks.toy": types.ModuleType("tasks.toy"), "tasks.toy.config": config, "tasks.toy.verb": verb}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(TASKS, "toy", Task("toy", "a toy", {"pretrain": "verb"}))
    folder = tmp_path / "presets" / "toy"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text(
        "# what it is for\ntask: toy\nverb: pretrain\ndescription: a base\ntrain: {epochs: 20, batch_size: 8}\n"
    )
    (folder / "small.yaml").write_text("extends: toy/base\ndescription: a small one\ntrain: {epochs: 3}\nkind: {name: fancy, heads: 4}\n")
    monkeypatch.setattr(presets, "root", lambda: tmp_path / "presets")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for variable in ("VID_WORKERS", "VID_DECODER", "VID_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return work


@pytest.fixture
def vid(monkeypatch, capsys):
    """Runs `vid` here: arguments -> (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["vid"])

    def run(*arguments: str) -> tuple[int, str, str]:
        code = app.main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


@pytest.fixture
def many(tmp_path):
    """A function that gives a video so many names, in a folder of their own, that a command is busy until it is stopped."""

    def linked(video: Path) -> str:
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(400):
            os.link(video, folder / f"m{number:03d}{video.suffix}")
        return str(folder)

    return linked
