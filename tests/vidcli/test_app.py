"""`vid` as a user calls it, in this process."""

import json

import pytest

from tasks.core.errors import InputError
from vidcli import app, launch


def test_unknown_commands_and_options_suggest_the_near_one(vid):
    code, out, err = vid("pretrian")
    assert (code, out) == (2, "")
    assert "Did you mean 'pretrain'?" in err
    code, _, err = vid("pretrain", "--epoch", "3")
    assert code == 2
    assert err == "error: no such option: --epoch; did you mean --epochs?\nhint: vid pretrain --help\n"


def test_a_value_of_the_wrong_type_names_the_option(vid):
    code, _, err = vid("pretrain", "--epochs", "abc")
    assert code == 2
    assert "--epochs: got 'abc', expected a valid integer" in err


def test_version(vid):
    code, out, _ = vid("--version")
    assert code == 0
    assert out.startswith("vid 0.")


COMMANDS = [
    "pretrain",
    "finetune",
    "classify",
    "eval classify",
    "presets list",
    "presets show",
    "presets cp",
    "config show",
    "data index",
    "data check",
    "data flow",
    "motion-boxes",
    "doctor",
    "demo",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_in_examples_and_fits_a_pipe(vid, command):
    code, out, _ = vid(*command.split(), "--help")
    assert code == 0
    examples = out[out.index("Examples:") :].splitlines()[1:]
    assert examples
    assert all(line.strip().removeprefix("srun ").startswith(f"vid {command}") for line in examples)
    assert out.isascii()
    assert max(map(len, out[: out.index("Examples:")].splitlines())) <= 80


def test_a_run_its_repetition_and_its_folder(toy, vid):
    code, out, err = vid("pretrain", "--preset", "toy/small", "--json")
    assert (code, json.loads(out)) == (0, {"loss": 0.5, "epochs": 3})
    folder = toy / "runs/pretrain-toy-small"
    assert "training" in err
    assert "training" in (folder / "log.txt").read_text()
    code, out, err = vid("pretrain", "--preset", "toy/small")
    assert code == 0
    assert "finished" in err
    assert "0.5" in out
    code, _, err = vid("pretrain", "--preset", "toy/small", "--epochs", "4")
    assert code == 2
    assert "train.epochs: 3 -> 4" in err
    assert vid("pretrain", "--preset", "toy/small", "--epochs", "4", "--name", "four")[0] == 0
    assert (toy / "runs/pretrain-toy-small-four/config.yaml").exists()
    assert vid("pretrain", "--config", folder / "config.yaml", "--out", toy / "again")[0] == 0


def test_flags_reach_the_configuration(toy, vid):
    flags = "--data a --data b@train --val c --from w --epochs 7 --batch-size 2 --lr 0.5 --seed 4 --workers 0 --decoder pyav --visualize 0"
    assert vid("pretrain", "-p", "toy/base", *flags.split(), "--out", "r")[0] == 0
    code, out, _ = vid("config", "show", "-c", "r/config.yaml", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["data"]["train"] == ["a", "b@train"]
    assert (found["data"]["val"], found["data"]["workers"], found["data"]["decoder"]) == (["c"], 0, "pyav")
    assert found["train"] == {"epochs": 7, "batch_size": 2, "seed": 4}
    assert (found["init"], found["optim"]["base_lr"], found["visualize"]) == ("w", 0.5, 0)


def test_dry_run_plans_and_writes_nothing(toy, vid):
    code, out, _ = vid("pretrain", "--preset", "toy/small", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out) | {"out": "-"} == {
        "task": "toy",
        "verb": "pretrain",
        "preset": "toy/small",
        "out": "-",
        "parameters": 7,
        "epochs": 3,
    }
    assert list(toy.iterdir()) == []
    assert vid("pretrain", "--preset", "toy/small", "--dry-run", "--set", "train.epochs=0")[0] == 2


@pytest.mark.parametrize(("epochs", "code"), [(75, 75), (5, 5), (1, 1)])
def test_exit_codes_of_a_run(toy, vid, epochs, code):
    found, out, err = vid("pretrain", "--preset", "toy/base", "--epochs", str(epochs))
    assert (found, out) == (code, "")
    assert "Traceback" not in err
    assert {75: "warning: stopped\nhint: run me again\n", 5: "error: loss is nan\n", 1: "error: bug: ZeroDivisionError: oops"}[code] in err


def test_traceback_only_with_debug(toy, vid):
    arguments = ("pretrain", "--preset", "toy/base", "--epochs", "1")
    assert "Traceback" in vid(*arguments, "--debug")[2]
    assert "Traceback" in vid("--debug", *arguments)[2]
    assert "Traceback" not in vid(*arguments)[2]


def test_no_preset_says_where_to_find_one(toy, vid):
    code, _, err = vid("pretrain", "--data", "x")
    assert code == 2
    assert "vid presets list" in err


def test_presets_list_show_and_copy(toy, vid):
    code, out, _ = vid("presets", "list", "--json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["toy/base", "toy/small"]
    assert json.loads(out.splitlines()[1]) == {"name": "toy/small", "task": "toy", "verb": "pretrain", "description": "a small one"}
    assert vid("presets", "list", "SMALL")[1].count("toy/") == 1
    assert vid("presets", "list", "nothing")[0] == 2
    assert vid("presets", "show", "toy/base")[1].startswith("# what it is for\ntask: toy\n")
    assert "shared: 2" in vid("presets", "show", "toy/small", "--resolved")[1]
    code, _, err = vid("presets", "show", "toy/smol")
    assert (code, "did you mean 'toy/small'?" in err) == (2, True)

    assert vid("presets", "cp", "toy/small", "mine")[0] == 0
    assert vid("config", "show", "-p", "mine.yaml")[0] == 0
    code, _, err = vid("presets", "cp", "toy/base", "mine.yaml")
    assert (code, "--force" in err) == (2, True)
    assert "extends" in (toy / "mine.yaml").read_text()
    assert vid("presets", "cp", "toy/base", "mine.yaml", "--force")[0] == 0
    assert "extends" not in (toy / "mine.yaml").read_text()
    assert vid("presets", "cp", "toy/base", "a/b/c.yaml")[0] == 2
    assert vid("presets", "cp", "toy/base", "a/b/c.yaml", "--make-parents")[0] == 0


def test_config_show_with_origins(toy, vid):
    code, out, _ = vid("config", "show", "-p", "toy/small", "--set", "train.seed=3", "--origin", "--json")
    rows = {row["key"]: row for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert rows["train.seed"] == {"key": "train.seed", "value": 3, "origin": "--set"}
    assert rows["train.epochs"]["origin"] == "preset toy/small (presets/toy/small.yaml)"
    code, _, err = vid("config", "show", "-p", "toy/small", "--set", "epoch=3", "--set", "train.batch_size=x")
    assert code == 2
    assert "2 problems" in err


def test_errors_of_a_full_or_foreign_disk_are_no_bugs(capsys):
    reporter = app.reset()
    assert app.explain(OSError(28, "No space left on device", "/x"), reporter) == 1
    assert app.explain(InputError("m", "h"), reporter) == 3
    full = "error: No space left on device: /x\nhint: make room or choose another folder, then repeat it\n"
    assert capsys.readouterr().err == f"{full}error: m\nhint: h\n"


def test_workers_leave_what_all_of_them_say_to_the_first(monkeypatch, capsys, tmp_path, toy, vid):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(launch.EXIT_DIR, str(tmp_path))
    assert vid("config", "show", "-p", "nothing") == (0, "", "")
    assert launch.exit_codes(tmp_path) == [2]
