"""Run folders that are taken up again."""

import os

import pytest

from tasks.core.clips.config import DataConfig
from tasks.core.config import Config
from tasks.core.engine.run import Run, differences
from tasks.core.errors import UsageError


class Settings(Config):
    data: DataConfig = DataConfig(clip={})
    seed: int = 0


def opened(folder, **values):
    return Run.open(folder, Settings(**values), "toy", "pretrain", [])


def test_the_same_manifest_by_another_path_is_the_same_setting(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "all.csv").write_text("path\na.mp4\n")
    (tmp_path / "other.csv").write_text("path\na.mp4\n")
    monkeypatch.chdir(tmp_path)
    run = opened(tmp_path / "run", data={"clip": {}, "train": ["all.csv@train"]})
    run.log_metrics(kind="train", step=1)
    run.close()
    spellings = [("./all.csv@train", tmp_path), (f"{tmp_path}/all.csv@train", tmp_path), ("../all.csv@train", tmp_path / "sub")]
    for spelling, place in spellings:
        os.chdir(place)
        opened(tmp_path / "run", data={"clip": {}, "train": [spelling]}).close()
    os.chdir(tmp_path)
    for other in ("all.csv@val", "all.csv", "other.csv@train", "nowhere.csv@train"):
        with pytest.raises(UsageError, match=r"data\.train"):
            opened(tmp_path / "run", data={"clip": {}, "train": [other]})


def test_texts_that_are_no_paths_still_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert differences({"a": "cosine", "b": ""}, {"a": "constant", "b": "."}) == ["a: cosine -> constant", "b:  -> ."]


def test_a_finished_run_is_not_to_be_repeated_with_other_settings(tmp_path):
    run = opened(tmp_path / "run")
    run.finish({"steps": 1})
    with pytest.raises(UsageError, match="finished run with other settings: seed: 0 -> 1") as refused:
        opened(tmp_path / "run", seed=1)
    assert "another --out" in refused.value.hint
    assert "repeat" not in refused.value.hint
