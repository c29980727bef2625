"""`vid publish`, `vid presets pull | push`, and hf:// references end to end, by the real client against the Hub on loopback."""

import getpass
import json
import platform
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import TOKEN, Hub
from hub_session import environment, session
from painted import write_video
from tiny_classifier import tiny_classifier

from tasks.classify.config import FinetuneConfig
from tasks.core.cards import local_places, public_name, public_preset, read_card, scrub
from tasks.core.checkpoint import load_config, load_weights, save_model
from tasks.core.engine.description import card, provenance
from tasks.core.engine.run import Run
from tasks.core.errors import UsageError
from tasks.core.nn.config import VitConfig
from tasks.core.publish import gather

VIT = VitConfig(size="tiny", dim=16, depth=1, heads=2, image_size=16, frames=2, tubelet=2, patch=8)
ME, HERE = getpass.getuser(), platform.node()


@pytest.fixture
def hub():
    with Hub() as server:
        yield server


@pytest.fixture
def run(tmp_path):
    """A finished run of `vid finetune` on a machine that is in none of what it publishes."""
    folder = tmp_path / "runs" / "mine"
    init = f"{tmp_path}/runs/tats/model"
    config = FinetuneConfig(init=init, data={"train": [f"{tmp_path}/secret/train.csv"]}, train={"epochs": 7, "batch_size": 5, "seed": 3})
    argv = ["vid", "finetune", "--from", init, "--data", f"{tmp_path}/secret/train.csv"]
    made = Run.open(folder, config, "classify", "finetune", argv, preset=f"{tmp_path}/my-recipe.yaml")
    made.record(data_hash="0123456789abcdef", videos=20, device="cpu")
    measured = {"top1": 87.5, "n": 8, "views": "5x3"}
    module, saved = tiny_classifier(VIT, ["left", "right"], metrics=measured, provenance=provenance(made, config))
    saved["preprocessing"]["stride_s"] = 0.08
    facts = {
        "task": "action recognition, 2 classes",
        "trained": f"finetune from {init}, 7 epochs",
        "data hash": "0123456789abcdef",
        "top1": 87.5,
    }
    text = card(
        "Video classifier", facts, "vid eval classify --model mine --data VAL", {"tags": ["video"], "pipeline_tag": "video-classification"}
    )
    save_model(folder / "model", module.state_dict(), saved, text)
    made.finish({"run": str(folder), "model": str(folder / "model"), "protocol": "finetuned", **measured})
    return folder


def published(run, **options):
    return gather(run, "org/name", **options)


def test_the_card_states_what_was_done(run):
    card = published(run).card
    head = yaml.safe_load(card.split("---")[1])
    assert head == {
        "library_name": "vid",
        "license": "apache-2.0",
        "pipeline_tag": "video-classification",
        "tags": ["vid", "video", "classify", "finetune"],
    }
    for line in (
        "| task | classify, finetune: action recognition, 2 classes |",
        "| trained | finetune from tats, 7 epochs |",
        "| preset | my-recipe.yaml |",
        "| started from | tats |",
        "| training data | 20 videos, hash 0123456789abcdef (over file names, labels and time ranges) |",
        "| seed | 3 |",
        "| licence | apache-2.0 |",
        "| top1 | 87.5 |",
        "| protocol | finetuned |",
        "| views | 5x3 |",
        "| stride_s | 0.08 |",
        "vid eval classify --model hf://org/name --data VAL",
    ):
        assert line in card.splitlines(), line
    facts = read_card(card).facts
    assert "epochs 7, batch_size 5" in facts["schedule"]
    assert "CPU cores" in facts["hardware"] or " x " in facts["hardware"]
    assert f"torch {torch.__version__.split('+')[0]}" in facts["software"]


def test_nothing_of_this_machine_is_published(run, tmp_path):
    package = published(run)
    assert sorted(package.files) == ["README.md", "config.json", "model.safetensors"]
    sent = {name: found if isinstance(found, bytes) else found.read_bytes() for name, found in package.files.items()}
    for name in ("README.md", "config.json"):
        text = sent[name].decode()
        assert local_places(text) == []
        for secret in (str(tmp_path), str(Path.home()), "secret/train.csv", "argv", HERE if len(HERE) > 4 else "\0", f"/{ME}"):
            assert secret not in text, (name, secret)
    assert json.loads(sent["config.json"])["provenance"]["init"] == "tats"


def test_a_model_made_elsewhere_is_cleaned_too(run):
    config = load_config(run / "model")
    config["provenance"] |= {"init": "/scratch/someone/runs/a b/model", "preset": "recipes/x.yaml", "file": "/home/someone/w.pth"}
    config["note"] = ["see ~/notes.txt and hf://org/x/y.yaml"]
    (run / "model" / "config.json").write_text(json.dumps(config))
    sent = json.loads(published(run).files["config.json"])
    assert sent["provenance"]["file"] == "w.pth"
    assert sent["provenance"]["preset"] == "x.yaml"
    assert "someone" not in json.dumps(sent)
    assert sent["note"] == ["see notes.txt and hf://org/x/y.yaml"]


def test_the_licence_and_sections_of_a_person_stay(run):
    readme = run / "model" / "README.md"
    text = readme.read_text().replace("library_name: vid", "library_name: vid\nlicense: cc-by-nc-4.0\nlanguage: en")
    readme.write_text(text + "\n## Limits\n\nHands only.\n")
    package = published(run)
    head = yaml.safe_load(package.card.split("---")[1])
    assert (package.licence, head["license"], head["language"]) == ("cc-by-nc-4.0", "cc-by-nc-4.0", "en")
    assert package.card.endswith("## Limits\n\nHands only.\n")
    assert published(run, licence="mit").licence == "mit"
    readme.write_text("---\na: [\n---\n# x\n")
    with pytest.raises(UsageError, match="not valid YAML"):
        published(run)


def test_a_model_without_a_protocol_says_that_its_numbers_are_none(run):
    (run / "result.json").write_text(json.dumps({"reconstruction": 0.25, "steps": 10}))
    config = load_config(run / "model")
    (run / "model" / "config.json").write_text(json.dumps({**config, "metrics": {}}))
    assert "No evaluation protocol" in published(run).card
    assert "| reconstruction | 0.25 |" in published(run).card


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (None, None),
        ("hf://org/x@abc", "hf://org/x@abc"),
        ("/home/me/runs/x/model", "x"),
        ("runs/x/model/", "x"),
        ("../x", "x"),
    ],
)
def test_names_of_models_for_strangers(reference, name):
    assert public_name(reference) == name


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        (None, None),
        ("hf://org/x@abc", "hf://org/x@abc"),
        ("masked/tats-tiny", "masked/tats-tiny"),
        ("recipes/mine.yaml", "mine.yaml"),
        ("/home/me/mine", "mine"),
        ("../mine", "mine"),
    ],
)
def test_names_of_presets_for_strangers(preset, name):
    assert public_preset(preset) == name


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("at /home/me/x.csv, then", "at x.csv, then"),
        ("(~/runs/x) ../../a/b", "(x) b"),
        ("/data/with space/x y", "x y"),
        (r"C:\Users\me\x", "x"),
        ("2 / 3, a/b, clips/s, hf://org/x@1/2, https://x.org/a/b", "2 / 3, a/b, clips/s, hf://org/x@1/2, https://x.org/a/b"),
    ],
)
def test_places_in_text(text, clean):
    assert scrub(text) == clean


@pytest.mark.slow
def test_publish_use_and_publish_again(hub, run, tmp_path):
    env = environment(hub, tmp_path / "home")
    publish = ["publish", "runs/mine", "--repo", "org/name"]
    nowhere = environment(hub, tmp_path / "home", HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN=None)
    dry, dry_json = session(nowhere, tmp_path, [*publish, "--dry-run"], [*publish, "--dry-run", "--json"])
    assert (dry[0], hub.requests) == (0, [])
    told = json.loads(dry_json[1])
    assert told["card"].startswith(published(run).card)  # a word on transformers follows
    assert {row["file"]: row["bytes"] for row in told["files"]}["model.safetensors"] == (run / "model/model.safetensors").stat().st_size
    assert "## Results" in dry[1]

    first, second = session(env, tmp_path, [*publish, "--private", "--json"], [*publish, "--json"])
    repo = hub.repos["org/name"]
    assert [json.loads(told[1])["changed"] for told in (first, second)] == [True, False]
    assert repo.private
    assert repo.messages == ["initial commit", "Publish classify finetune"]
    assert "licence: apache-2.0" in first[2]
    assert f"hf://org/name@{repo.head}" in first[2]

    config = load_config(run / "model")
    (run / "model" / "config.json").write_text(json.dumps({**config, "labels": ["left", "up"]}))
    (third,) = session(env, tmp_path, [*publish, "--json"])
    assert json.loads(third[1])["commit"] == repo.head
    assert len(repo.commits) == 3
    loaded = json.loads(repo.files["config.json"])
    assert loaded["labels"] == ["left", "up"]
    (tmp_path / "back").mkdir()
    for name, content in repo.files.items():
        (tmp_path / "back" / name).write_bytes(content)
    weights = load_weights(tmp_path / "back")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_weights(run / "model").items())
    _nowhere(TOKEN, tmp_path, [*dry, *dry_json, *first, *second, *third], repo)


def _nowhere(secret, folder, texts, repo):
    """The secret is in nothing that was said, written or sent."""
    assert not any(secret in str(text) for text in texts)
    for path in folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert not any(secret.encode() in content for _, files in repo.commits for content in files.values())


def test_what_a_run_took_from_the_hub_is_recorded_at_its_commit(hub, run, tmp_path):
    hub.add("org/enc", {path.name: path.read_bytes() for path in (run / "model").iterdir()})
    recipe = "task: classify\nverb: finetune\nhead: {mode: finetune}\ndata: {clip: {frames: 2}}\naugment: {crop: none}\n"
    repo = hub.add("org/enc", {"preset.yaml": recipe})
    for label in ("left", "right"):
        (tmp_path / "data" / label).mkdir(parents=True)
        write_video(tmp_path / "data" / label / f"{label}.mp4", n=8)
    command = [
        "finetune",
        "--preset",
        "hf://org/enc@main",
        "--from",
        "hf://org/enc",
        "--data",
        "data",
        "--max-steps",
        "1",
        "--workers",
        "0",
    ]
    (told,) = session(environment(hub, tmp_path / "home"), tmp_path, [*command, "--out", "runs/new", "--json"])
    assert told[0] == 0, told[2]
    pinned = f"hf://org/enc@{repo.head}"
    facts = json.loads((tmp_path / "runs/new/run.json").read_text())
    assert facts["preset"] == pinned
    assert facts["pinned"]["hf://org/enc"] == pinned
    origin = load_config(tmp_path / "runs/new/model")["provenance"]
    assert (origin["preset"], origin["init"]) == (pinned, pinned)
    card = gather(tmp_path / "runs/new", "org/new").card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "org/enc"


def test_a_preset_is_pushed_with_what_it_extends_and_pulled_again(hub, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "mine.yaml").write_text("# what it is for\nextends: base/near\ntrain: {epochs: 3}\n")
    (tmp_path / "base/near.yaml").write_text("extends: masked/tats-tiny\ndescription: mine\ntrain: {seed: 5}\n")
    push = ["presets", "push", "mine.yaml", "--repo", "org/recipes"]
    env, show = environment(hub, tmp_path / "home"), ["presets", "show", "--resolved", "--json"]
    dry, one, two, other, local, remote = session(
        env, tmp_path, [*push, "--dry-run", "--json"], [*push, "--json"], [*push, "--json"], [*push, "--as", "r/x.yaml", "--json"],
        [*show, "mine.yaml"], [*show, "hf://org/recipes/r/x.yaml"],
    )  # fmt: skip
    repo = hub.repos["org/recipes"]
    assert [json.loads(line)["file"] for line in dry[1].splitlines()] == ["preset.yaml", "base/near.yaml"]
    assert [json.loads(told[1])["changed"] for told in (one, two, other)] == [True, False, True]
    assert repo.files["preset.yaml"] == b"# what it is for\nextends: base/near.yaml\ntrain: {epochs: 3}\n"
    assert set(repo.files) == {".gitattributes", "README.md", "preset.yaml", "base/near.yaml", "r/x.yaml", "r/base/near.yaml"}
    assert b"vid pretrain --preset hf://org/recipes --data VIDEOS" in repo.files["README.md"]
    assert json.loads(local[1]) == json.loads(remote[1])
    assert json.loads(local[1])["train"]["seed"] == 5

    hub.add("org/recipes", {"base/near.yaml": "extends: masked/tats-tiny\ntrain: {seed: 6}\n"})
    ref = f"hf://org/recipes@{repo.commits[1][0]}"
    (pulled,) = session(env, tmp_path, ["presets", "pull", ref, "--json"])
    assert json.loads(pulled[1]) == {"preset": ref, "task": "masked", "verb": "pretrain", "models": []}
    offline = environment(hub, tmp_path / "home", HF_HUB_OFFLINE="1")
    (seen, missing) = session(offline, tmp_path, [*show, ref], [*show, "hf://org/recipes@main/x"])
    assert json.loads(seen[1])["train"]["seed"] == 5
    assert missing[0] == 2


def test_pull_brings_the_models_a_preset_names(hub, run, tmp_path):
    repo = hub.add("org/enc", {path.name: path.read_bytes() for path in (run / "model").iterdir()})
    text = "extends: masked/tats-tiny\ninit: hf://org/enc\n"
    hub.add("org/recipe", {"preset.yaml": text})
    offline, env = environment(hub, tmp_path / "home", HF_HUB_OFFLINE="1"), environment(hub, tmp_path / "home")
    ((code, _, err),) = session(offline, tmp_path, ["presets", "pull", "hf://org/recipe"])
    assert (code, "hf download org/recipe preset.yaml" in err) == (2, True)
    ((code, out, _),) = session(env, tmp_path, ["presets", "pull", "hf://org/recipe", "--json"])
    assert (code, json.loads(out)["models"]) == (0, [f"hf://org/enc@{repo.head}"])
    ((code, out, err),) = session(offline, tmp_path, ["presets", "pull", "hf://org/recipe", "--json"])
    assert (code, json.loads(out)["models"]) == (0, [f"hf://org/enc@{repo.head}"]), err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: masked/tats-tiny\ndata: {train: [/data/me/x]}\n", "names a place on this machine: /data/me/x"),
        ("# as in /home/me/notes.txt\nextends: masked/tats-tiny\n", "names a place on this machine: /home/me/notes.txt"),
        ("extends: ../elsewhere.yaml\n", "extends elsewhere.yaml, which is not in its folder"),
        ("extends: masked/tats-tiny\ntrain: {epoch: 3}\n", "train.epoch: unknown key"),
        ("{extends: masked/tats-tiny, train: {seed: 1}}\n", None),
        ("{extends: near, train: {seed: 1}}\n", "'extends' cannot be rewritten"),
    ],
)
def test_a_preset_that_is_not_for_others(tmp_path, monkeypatch, vid, text, message):
    (tmp_path / "elsewhere.yaml").write_text("extends: masked/tats-tiny\n")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("near.yaml").write_text("extends: masked/tats-tiny\n")
    Path("x.yaml").write_text(text)
    code, _, err = vid("presets", "push", "x.yaml", "--repo", "org/name", "--dry-run")
    assert code == (2 if message else 0)
    assert (message or "") in err


def test_what_cannot_be_published(run, tmp_path, vid):
    def refused(*arguments):
        code, _, err = vid("publish", *arguments, "--dry-run")
        assert code == 2
        return err

    assert "write org/name" in refused(run, "--repo", "org/name/file")
    assert "does not exist" in refused(tmp_path / "absent", "--repo", "org/name")
    (run / "model" / "notes.json").symlink_to(tmp_path / "secret.json")
    assert "leads out of its folder" in refused(run, "--repo", "org/name")
    (run / "model" / "notes.json").unlink()
    (run / "model" / "model.safetensors").write_bytes(b"PK\x03\x04")
    assert "is a pickle, which is never read" in refused(run, "--repo", "org/name")
    (run / "model" / "model.safetensors").write_bytes(b"x" * 20)
    assert "is not a readable safetensors file" in refused(run, "--repo", "org/name", "--no-transformers")
