import json
from pathlib import Path

import pytest
import yaml

from tasks.core.errors import UsageError
from vidcli.resolve import Given, resolve


def origins(resolved):
    return {row["key"]: row["origin"] for row in resolved.rows()}


def test_layers_low_to_high_and_where_each_value_came_from(toy):
    (toy / "a.yaml").write_text("train: {batch_size: 16, seed: 5}\noptim: {base_lr: 1e-4}\n")
    given = Given("toy/small", [Path("a.yaml")], [("--seed", "train.seed", 6)], ["optim.base_lr=2e-4", "optim.base_lr=3e-4"])
    resolved = resolve(given)
    assert (resolved.task, resolved.verb, resolved.preset, resolved.slug) == ("toy", "pretrain", "toy/small", "toy-small")
    assert resolved.config.train.model_dump() == {"epochs": 3, "batch_size": 16, "seed": 6}
    assert resolved.config.optim.base_lr == 3e-4
    found = origins(resolved)
    assert found["train.epochs"] == "preset toy/small (presets/toy/small.yaml)"
    assert found["train.batch_size"] == "--config a.yaml"
    assert found["train.seed"] == "--seed"
    assert found["optim.base_lr"] == "--set"
    assert found["data.decoder"] == "default"


def test_an_inherited_value_names_the_ancestor(toy):
    assert origins(resolve(Given("toy/small")))["train.batch_size"] == "preset toy/base (presets/toy/base.yaml), extended by toy/small"


def test_an_encoder_of_another_family_forgets_the_settings_of_the_one_it_was(tmp_path):
    """A preset from before families were named: its settings are those of a transformer."""
    mine = tmp_path / "mine.yaml"
    given = {"task": "classify", "model": {"size": "tiny", "dim": 96, "image_size": 32}}
    mine.write_text(yaml.safe_dump(given))
    models = [
        resolve(Given("classify/tiny", [mine], sets=sets), "finetune").config.model
        for sets in ([], ["model.family=vit"], ["model.family=resnet", "model.size=resnet18", "model.motion.patch=5"])
    ]
    assert [(m.family, m.size, m.image_size) for m in models] == [("vit", "tiny", 32), ("vit", "tiny", 32), ("resnet", "resnet18", 224)]
    assert models[1] == models[0]
    assert models[2].motion.patch == 5
    with pytest.raises(UsageError, match=r"model\.dim: unknown key"):
        resolve(Given("classify/tiny", [mine], sets=["model.family=resnet", "model.dim=9"]), "finetune")


def test_a_section_of_another_kind_forgets_the_keys_of_the_kind_it_was(toy):
    resolved = resolve(Given("toy/small", sets=["kind.name=plain"]))
    assert resolved.config.kind.model_dump() == {"name": "plain", "shared": 1}
    same = resolve(Given("toy/small", sets=["kind.name=fancy", "kind.shared=9"]))
    assert same.config.kind.model_dump() == {"name": "fancy", "shared": 9, "heads": 4}


def test_a_key_below_a_default_section_keeps_the_rest_of_the_default(toy):
    resolved = resolve(Given("toy/base", sets=["data.clip.frames=8", "kind.heads=2"]))
    assert resolved.config.data.clip.stride_frames == 4
    assert resolved.config.kind.model_dump() == {"name": "fancy", "shared": 2, "heads": 2}


def test_a_key_unsets_the_one_it_excludes(toy):
    clip = resolve(Given("toy/base", sets=["data.clip.stride_s=0.1"])).config.data.clip
    assert (clip.stride_frames, clip.stride_s) == (None, 0.1)


def test_environment_sets_machine_matters_below_what_the_user_says(toy, monkeypatch):
    monkeypatch.setenv("VID_WORKERS", "3")
    monkeypatch.setenv("VID_DECODER", "pyav")
    resolved = resolve(Given("toy/base", flags=[("--decoder", "data.decoder", "decord")]))
    assert (resolved.config.data.workers, resolved.config.data.decoder) == (3, "decord")
    assert origins(resolved)["data.workers"] == "VID_WORKERS"
    monkeypatch.setenv("VID_WORKERS", "many")
    with pytest.raises(UsageError, match=r"data.workers: got 'many' \(from VID_WORKERS\)"):
        resolve(Given("toy/base"))


def test_what_was_resolved_is_a_config_that_resolves_to_itself(toy):
    first = resolve(Given("toy/small", sets=["data.clip.stride_s=0.25"]))
    saved = {"task": "toy", "verb": "pretrain", **first.config.model_dump(mode="json")}
    (toy / "config.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    assert resolve(Given(files=[Path("config.yaml")])).config == first.config
    assert resolve(Given("toy/base", [Path("config.yaml")])).config == first.config


def test_set_takes_yaml_values(toy):
    config = resolve(Given("toy/base", sets=["data.train=[a, b]", "init=null", "optim={base_lr: 1e-2}"])).config
    assert (config.data.train, config.init, config.optim.base_lr) == (["a", "b"], None, 0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given("toy/base", sets=["train.epochs"]), "expected key.path=value"),
        (Given("toy/base", sets=["train..epochs=1"]), "expected key.path=value"),
        (Given("toy/base", sets=["train.epochs=[1"]), "--set train.epochs, line 1"),
        (Given("toy/base", sets=["train.epochs.x=1"]), "train.epochs: got"),
        (Given("toy/base", sets=["epochs=1"]), "did you mean 'train.epochs'"),
        (Given("toy/base", flags=[("--mask", "mask", 1)]), r"mask: unknown key \(from --mask\)"),
        (Given(), "which task"),
        (Given("toy/base", [Path("other.yaml")]), "for task 'masked', but"),
    ],
)
def test_what_cannot_be_resolved_says_why(toy, given, message):
    (toy / "other.yaml").write_text("task: masked\nverb: pretrain\n")
    with pytest.raises(UsageError, match=message):
        resolve(given)


def test_a_preset_of_another_verb_names_the_command(toy):
    with pytest.raises(UsageError) as caught:
        resolve(Given("toy/base"), "finetune")
    assert "vid pretrain" in caught.value.hint


def test_rows_can_be_written_as_json(toy):
    assert json.dumps(resolve(Given("toy/small")).rows())


def test_the_hint_of_an_unknown_key_names_the_preset(toy):
    with pytest.raises(UsageError) as caught:
        resolve(Given("toy/base", sets=["epochs=1"]))
    assert caught.value.hint.endswith("vid config show --preset toy/base --origin")
