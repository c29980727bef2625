"""`--plan` as a user calls it."""

import json

import pytest


@pytest.mark.parametrize(
    "command",
    [
        ["pretrain", "--preset", "masked/videomae-vitb-k400", "--set", "model.size=large", "--nodes", "8", "--gpus", "8"],
        ["finetune", "--preset", "classify/vitb-k400", "--set", "model.size=large", "--nodes", "8", "--gpus", "8"],
    ],
    ids=["pretrain", "finetune"],
)
def test_vit_large_on_kinetics_with_64_gpus(command, vid, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*command, "--plan", "--assume", "videos=240000", "--assume", "device=h200", "--assume", "videos_per_s=3"]
    code, out, _ = vid(*words, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["gpus"]["value"] == 64
    assert 300e6 < found["parameters"]["value"] < 360e6
    assert found["step"]["value"] > 0
    assert found["decode_cores"]["value"] == pytest.approx(found["videos_needed"]["value"] / 3)
    assert found["mfu"]["origin"] == "assumed"
    code, out, _ = vid(*words)
    assert code == 0
    assert "memory_per_gpu" in out
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_plan(vid):
    code, _, err = vid("pretrain", "--preset", "anomalies/tiny", "--plan", "--assume", "videos=10")
    assert code == 2
    assert "no --plan" in err
    code, _, err = vid("pretrain", "--preset", "masked/tats-tiny", "--nodes", "2")
    assert code == 2
    assert "--plan" in err
    code, _, err = vid("pretrain", "--preset", "masked/tats-tiny", "--plan")
    assert code == 2
    assert "videos" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--plan --profile 3", "--plan and --profile exclude each other"),
        ("--profile 3 --dry-run", "--profile and --dry-run exclude each other"),
        ("--plan --dry-run", "--plan and --dry-run exclude each other"),
        ("--processes 2 --gpus 2 --dry-run", "--processes is for the CPU"),
        ("--processes 1 --gpus 1", "--processes is for the CPU"),
        ("--profile 0", "'--profile'"),
        ("--gpus 1", "GPUs found here: 0"),
    ],
)
def test_flags_that_do_not_go_together(flags, message, vid, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    code, out, err = vid("pretrain", "--preset", "masked/tats-tiny", "--data", "videos", *flags.split())
    assert (code, out) == (2, "")
    assert message in err
    assert not list(tmp_path.iterdir())
