import json

import pytest
from painted import write_video

from vidcli.app import main


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "videos").mkdir()
    for number in range(4):
        write_video(tmp_path / "videos" / f"{number}.mp4", n=24)
    return tmp_path / "videos"


def test_a_profile_names_the_parts_of_a_step_and_leaves_nothing(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["pretrain", "--preset", "masked/tats-tiny", "--data", str(videos), "--batch-size", "2", "--workers", "0"]
    assert main([*words, "--set", "data.preload=false", "--set", "model.depth=1", "--profile", "2", "--json", "-q"]) in (0, None)
    report = json.loads(capsys.readouterr().out)
    parts = {part["part"]: part for part in report["parts"]}
    wanted = {"wait for clips", "read and decode", "augment", "transfer", "sample", "encode", "decode", "loss", "optimizer", "policy"}
    assert wanted | {"decode, backward", "encode, backward"} <= set(parts)
    assert all(parts[name]["ms"] > 0 for name in ("read and decode", "encode", "decode", "optimizer"))
    assert sum(part["share"] for part in report["parts"]) == pytest.approx(1, abs=0.01)
    assert report["steps"] == 2
    assert report["read_s_per_clip"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["videos"]
