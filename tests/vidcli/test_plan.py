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
        ("--profile 0", "--profile: got '0', expected a number"),
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


def test_a_plan_without_gpus_is_for_this_machine_in_units_that_people_read(vid, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    call = ("pretrain", "--preset", "masked/tats-tiny", "--plan", "--assume", "videos=50")
    code, out, _ = vid(*call)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "measured" in lines["peak"]
    assert "a100" not in out
    assert " days " not in lines["run"]  # a toy
    assert "e-0" not in lines["run"]
    assert "a100" in vid(*call, "--gpus", "8")[1]
    assert "GPU hours" in vid(*call, "--assume", "device=a100")[1]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.67e-7, "days", "14.43 ms"),
        (0.5, "days", "12 hours"),
        (2.0, "days", "2 days"),
        (0.25, "GiB", "256 MiB"),
        (0.25, "", "0.25 "),
        (0, "s", "0 s"),
    ],
)
def test_small_numbers_get_a_smaller_unit(value, unit, shown):
    from vidcli.training import _readable

    assert "{value} {unit}".format(**_readable(value, unit)) == shown
