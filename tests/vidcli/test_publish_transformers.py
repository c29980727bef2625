"""What `vid publish` sends opens with transformers under the name of its repository, and with `vid`."""

import json

import pytest
import torch
import yaml
from hub_server import Hub
from hub_session import environment, python, session
from tiny_classifier import far_from_start, tiny_classifier

from tasks.classify.config import HeadConfig
from tasks.core.checkpoint import load_config, load_weights, save_model
from tasks.core.convert_transformers import video_preprocessing
from tasks.core.nn.config import DecoderConfig, TargetConfig, VitConfig
from tasks.core.towers.visual import described
from tasks.masked.model import MaskedAutoencoder

pytest.importorskip("transformers")

VIT = VitConfig(size="tiny", dim=32, depth=2, heads=2, image_size=32, frames=4, tubelet=2, patch=8)
SAVED = {
    "library": "vid",
    "architecture": VIT.model_dump(),
    "preprocessing": video_preprocessing(VIT, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], 2),
    "provenance": {"verb": "finetune", "seed": 3},
}
CARD = "---\nlibrary_name: vid\n---\n\n# Video model\n\n| | |\n|---|---|\n| epochs | 7 |\n"


def classifier(folder, **vit):
    model, head = VIT.model_copy(update=vit), HeadConfig(init_scale=1.0, norm_eps=1e-5)
    module, saved = tiny_classifier(model, ["wave", "point", "clap"], head, provenance=SAVED["provenance"])
    save_model(folder, far_from_start(module).state_dict(), saved, CARD)
    return module


def autoencoder(folder):
    torch.manual_seed(0)
    decoder = DecoderConfig(dim=16, depth=1, heads=1, norm_eps=1e-5)
    module = far_from_start(MaskedAutoencoder(VIT, decoder))
    facts = {"task": "masked", "method": "tube", "decoder": decoder.model_dump(), "sampler": {"name": "tube"}, "mask_ratio": 0.75}
    save_model(folder, module.state_dict(), {**SAVED, **facts, "target": TargetConfig().model_dump()}, CARD)
    return module


OPEN = """
import sys, torch
from transformers import AutoImageProcessor, AutoModelForPreTraining, AutoModelForVideoClassification, pipeline
kind, repo, out = sys.argv[1:]
torch.manual_seed(1)
video = torch.randn(2, 4, 3, 32, 32)
frames = torch.randint(0, 256, (4, 3, 32, 56), dtype=torch.uint8)
processor = AutoImageProcessor.from_pretrained(repo)
found = {"video": video, "frames": frames, "pixels": processor(list(frames), return_tensors="pt")["pixel_values"]}
with torch.no_grad():
    if kind == "classify":
        model, told = AutoModelForVideoClassification.from_pretrained(repo, output_loading_info=True)
        found |= {"logits": model.eval()(video).logits, "labels": [model.config.id2label[i] for i in range(3)]}
        found["pipeline"] = [model.config.id2label[i] for i in pipeline("video-classification", repo).model.config.id2label]
    else:
        model, told = AutoModelForPreTraining.from_pretrained(repo, output_loading_info=True)
        masked = torch.zeros(2, 32, dtype=torch.bool)
        masked[:, 5:29] = True
        found |= {"masked": masked, "logits": model.eval()(video, masked).logits}
missing = [name for name in told["missing_keys"] if not name.endswith("key.bias")]
found["wrong"] = [*missing, *told["unexpected_keys"], *told["mismatched_keys"]]
torch.save(found, out)
"""


def opened(hub, tmp_path, kind):
    """What a machine that knows only the repository's name gets from it, with transformers alone."""
    python(OPEN, environment(hub, tmp_path / "elsewhere", OMP_NUM_THREADS="1"), tmp_path, kind, "org/name", "found.pt")
    return torch.load(tmp_path / "found.pt", weights_only=True)


@torch.no_grad()
@pytest.mark.slow
def test_a_published_classifier_opens_with_both_programs(tmp_path):
    module = classifier(tmp_path / "model")
    publish = ["publish", "model", "--repo", "org/name", "--json"]
    with Hub() as hub:
        env = environment(hub, tmp_path / "home")
        first, second, ours = session(
            env, tmp_path, publish, publish, ["convert", "hf://org/name", "--to", "transformers", "-o", "again", "--json"]
        )
        assert [json.loads(told[1])["changed"] for told in (first, second)] == [True, False], first[2]
        files = hub.repos["org/name"].files
        found = opened(hub, tmp_path, "classify")
    assert set(files) >= {"config.json", "model.safetensors", "transformers.safetensors", "preprocessor_config.json", "README.md"}
    assert found["wrong"] == []
    assert (found["logits"] - module(found["video"])).abs().max() < 1e-5
    assert found["labels"] == found["pipeline"] == ["wave", "point", "clap"]
    pixels = (found["frames"][None, :, :, :, 12:44].float() / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(3, 1, 1)
    assert torch.allclose(found["pixels"], pixels, atol=1e-5)
    assert ours[0] == 0, ours[2]  # `vid` takes the repository as a model of its own
    (own,) = (tmp_path / "home/hub/models--org--name/snapshots").iterdir()
    assert {path.name for path in own.iterdir()} == set(files) - {"transformers.safetensors", ".gitattributes"}  # not fetched twice
    assert described(str(own))[0]["kind"] == "vit"  # not taken for a CLIP folder
    card = files["README.md"].decode()
    assert 'AutoModelForVideoClassification.from_pretrained("org/name")' in card
    assert json.loads(files["config.json"])["provenance"]["seed"] == 3


@torch.no_grad()
@pytest.mark.slow
def test_a_published_masked_model_opens_with_transformers(tmp_path):
    module = autoencoder(tmp_path / "model")
    with Hub() as hub:
        (told,) = session(environment(hub, tmp_path / "home"), tmp_path, ["publish", "model", "--repo", "org/name", "--json"])
        assert told[0] == 0, told[2]
        assert "outputs in transformers differ" not in told[2]
        found = opened(hub, tmp_path, "masked")
    assert found["wrong"] == []
    index = torch.arange(32).expand(2, -1)
    hidden, seen = index[found["masked"]].view(2, -1), index[~found["masked"]].view(2, -1)
    cubes = module.encoder.cubes(found["video"])
    visible = module.embed(cubes.gather(1, seen[..., None].expand(-1, -1, cubes.shape[-1])))
    assert (found["logits"] - module.decode(module.encode(visible, seen), seen, hidden)).abs().max() < 1e-5


def test_what_transformers_lacks_is_published_in_our_form_only(tmp_path, monkeypatch, vid):
    monkeypatch.chdir(tmp_path)
    classifier(tmp_path / "model", pos="sincos3d")
    code, out, err = vid("publish", "model", "--repo", "org/name", "--dry-run", "--json")
    assert code == 0, err
    assert "not sent in the form of transformers: transformers' VideoMAE cannot represent" in err
    assert {row["file"] for row in json.loads(out)["files"]} == {"config.json", "model.safetensors", "README.md"}
    classifier(tmp_path / "plain")
    code, out, err = vid("publish", "plain", "--repo", "org/name", "--no-transformers", "--dry-run", "--json")
    assert {row["file"] for row in json.loads(out)["files"]} == {"config.json", "model.safetensors", "README.md"}
    assert "from_pretrained" not in json.loads(out)["card"]


@torch.no_grad()
def test_a_converted_folder_is_published_as_it_is(tmp_path):
    module = classifier(tmp_path / "model")
    publish = ["publish", "theirs", "--repo", "org/name", "--license", "mit", "--json"]
    with Hub() as hub:
        made, sent = session(
            environment(hub, tmp_path / "home"), tmp_path, ["convert", "model", "--to", "transformers", "-o", "theirs"], publish
        )
        assert (made[0], sent[0]) == (0, 0), sent[2]
        files = hub.repos["org/name"].files
        found = opened(hub, tmp_path, "classify")
    assert (found["logits"] - module(found["video"])).abs().max() < 1e-5
    head = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert (head["library_name"], head["license"], head["pipeline_tag"]) == ("transformers", "mit", "video-classification")
    assert "pipeline('video-classification', 'org/name')" in files["README.md"].decode()
    assert set(files) == {".gitattributes", "config.json", "model.safetensors", "preprocessor_config.json", "README.md"}


def test_an_onnx_folder_is_published_as_it_is(tmp_path, vid):
    """The folder as `vid convert --to onnx` leaves it: model.onnx, more of it beside for large models, config.json."""
    classifier(tmp_path / "model")
    (tmp_path / "onnx").mkdir()
    told = {"opset": 18, "input": "video", "output": "logits"}
    (tmp_path / "onnx/config.json").write_text(json.dumps({**load_config(tmp_path / "model"), "onnx": told}))
    for name in ("model.onnx", "model.onnx.data", "notes.txt"):
        (tmp_path / "onnx" / name).write_bytes(b"x")
    code, out, err = vid("publish", tmp_path / "onnx", "--repo", "org/name", "--dry-run", "--json")
    assert code == 0, err
    assert {row["file"] for row in json.loads(out)["files"]} == {"model.onnx", "model.onnx.data", "config.json", "README.md"}
    assert "not sent: notes.txt" in err
    assert "hf download org/name model.onnx config.json" in json.loads(out)["card"]
    assert "| output | logits |" in json.loads(out)["card"]


def test_a_folder_of_another_program_is_refused_with_a_way(tmp_path, vid):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    code, out, err = vid("publish", tmp_path / "x", "--repo", "org/name", "--dry-run")
    assert (code, out) == (2, "")
    assert "another program" in err
    assert "hf upload" in err


def test_a_damaged_model_is_not_published(tmp_path, vid):
    classifier(tmp_path / "model")
    weights = load_weights(tmp_path / "model")
    weights["head.linear.bias"][0] = float("nan")
    save_model(tmp_path / "model", weights, load_config(tmp_path / "model"), CARD)
    code, _, err = vid("publish", tmp_path / "model", "--repo", "org/name", "--dry-run")
    assert code == 2
    assert "holds NaN" in err
