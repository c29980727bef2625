import pytest

from tasks.core.errors import UsageError
from vidcli import presets


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_preset_by_name_with_its_ancestors(toy):
    preset = presets.load("toy/small")
    assert (preset.task, preset.verb, preset.description) == ("toy", "pretrain", "a small one")
    assert [values["train"]["epochs"] for values, _ in preset.layers] == [20, 3]


def test_a_file_extends_a_file_beside_it_or_a_built_in(toy):
    write(toy / "recipes/mine.yaml", "extends: other.yaml\ntrain: {seed: 1}\n")
    write(toy / "recipes/other.yaml", "extends: toy/base\ntrain: {seed: 2}\n")
    preset = presets.load("recipes/mine.yaml")
    assert [list(values["train"].items())[-1] for values, _ in preset.layers] == [("batch_size", 8), ("seed", 2), ("seed", 1)]
    assert preset.source.slug == "mine"


def test_a_circle_of_extends_is_named(toy):
    write(toy / "a.yaml", "task: toy\nverb: pretrain\nextends: b.yaml\n")
    write(toy / "b.yaml", "extends: a.yaml\n")
    with pytest.raises(UsageError, match=r"circle: a.yaml -> b.yaml -> a.yaml"):
        presets.load("a.yaml")


@pytest.mark.parametrize(("typed", "meant"), [("toy/smal", "toy/small"), ("small", "toy/small"), ("toy/bose.yaml", "toy/base")])
def test_an_unknown_name_suggests_a_near_one(toy, typed, meant):
    with pytest.raises(UsageError) as caught:
        presets.find(typed)
    assert f"did you mean '{meant}'?" in (caught.value.hint or "") or "no such preset file" in caught.value.message
    assert "vid presets list" in caught.value.hint


@pytest.mark.parametrize("bad", ["../secrets", "toy/../toy/base", "/etc/passwd/x"])
def test_a_name_is_never_a_path_out_of_the_presets(toy, bad):
    with pytest.raises(UsageError):
        presets.find(bad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected a mapping"),
        ("train: {epochs: 1\n", "line 2"),
        ("task: toy\n", "does not say its verb"),
        ("task: [toy]\nverb: pretrain\n", "'task' must be text"),
        ("extends: nowhere\ntask: toy\n", "extends 'nowhere', which is not there"),
        ("extends: [toy/base]\n", "'extends' must be"),
    ],
)
def test_a_file_that_is_no_preset(toy, text, message):
    with pytest.raises(UsageError, match=message):
        presets.load(write(toy / "x.yaml", text))


def test_files_that_are_only_extended_are_not_listed(toy, tmp_path):
    write(tmp_path / "presets/toy/_hidden.yaml", "task: toy\nverb: pretrain\n")
    assert presets.names() == ["toy/base", "toy/small"]
    assert presets.find("toy/_hidden").name == "toy/_hidden"


def test_completion_gives_names_with_their_first_comment(toy):
    assert dict(presets.complete("toy/b")) == {"toy/base": "what it is for"}


def test_a_hub_preset_extends_inside_its_repository_and_revision_only(toy, monkeypatch):
    asked = []

    def fetch_file(reference, path=None):
        asked.append((reference, path))
        name = f"{len(asked)}.yaml"
        return toy / write(toy / "hub" / name, "task: toy\nverb: pretrain\n" + ("extends: base.yaml\n" if len(asked) == 1 else ""))

    monkeypatch.setattr(presets.hub, "fetch_file", fetch_file)
    presets.load("hf://org/repo/recipes/x.yaml@v1")
    assert asked == [("hf://org/repo/recipes/x.yaml@v1", "recipes/x.yaml"), ("hf://org/repo/recipes/base.yaml@v1", "recipes/base.yaml")]
    child = presets.Source("hf://org/repo/x.yaml", toy / "hub/1.yaml", "hub")
    for outside in ("../../other.yaml", "/etc/passwd"):
        with pytest.raises(UsageError):
            presets._parent(child, outside)


def test_a_hub_preset_that_cannot_be_fetched_names_the_command(toy, monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(UsageError) as caught:
        presets.load("hf://org/repo")
    assert "hf download org/repo preset.yaml" in caught.value.hint


def test_a_copy_still_extends_what_the_original_extended(toy, tmp_path):
    write(tmp_path / "presets/toy/near.yaml", "# comment stays\nextends: base.yaml\ntrain: {seed: 3}\n")
    text = presets.portable(presets.find("toy/near"))
    assert text == "# comment stays\nextends: toy/base\ntrain: {seed: 3}\n"


def test_a_copy_that_would_not_extend_it_is_not_made(toy, vid):
    """Text is replaced, so that comments stay; where that does not do, nothing is written."""
    write(toy / "here/near.yaml", "extends: toy/base\n")
    write(toy / "here/flow.yaml", "{extends: near, train: {seed: 3}}\n")
    write(toy / "here/built-in.yaml", "{extends: toy/base, train: {seed: 3}}\n")
    (toy / "there").mkdir()
    code, _, err = vid("presets", "cp", "here/flow.yaml", "there")
    assert (code, "here/flow.yaml: 'extends' cannot be rewritten" in err) == (2, True)
    assert vid("presets", "cp", "here/built-in.yaml", "there")[0] == 0
    assert [path.name for path in (toy / "there").iterdir()] == ["built-in.yaml"]
    assert vid("config", "show", "-p", "there/built-in.yaml")[0] == 0


def test_show_prints_what_a_preset_inherits_and_from_where(toy, vid):
    code, out, _ = vid("presets", "show", "toy/small")
    assert code == 0
    assert out.startswith("extends: toy/base")
    values = {line.split(":")[0].strip("# "): line for line in out.splitlines() if line.startswith("#   ")}
    assert values["train.epochs"].split() == ["#", "train.epochs:", "3", "(toy/small)"]
    assert values["train.batch_size"].split() == ["#", "train.batch_size:", "8", "(toy/base)"]
    (toy / "copy.yaml").write_text(out)
    assert vid("config", "show", "--preset", "copy.yaml")[0] == 0  # still the preset
    assert "# All values" not in vid("presets", "show", "toy/base")[1]
