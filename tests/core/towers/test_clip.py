"""CLIP towers against transformers, in every form in which they are published."""

import shutil

import pytest
import torch
from clip_toys import clip_folder, networks, openai_tensors, openclip_folder, pictures, tokenizer
from safetensors.torch import save_file

from tasks.core.errors import UsageError
from tasks.core.towers import load_image_tower, load_text_tower
from tasks.core.towers.clip_write import write_tokenizer

TEXTS = ["a red square", "", "The dog's running — 日本語 " * 20, "it isn't"]


def rounded(x: torch.Tensor) -> torch.Tensor:
    """A vector of transformers, which some versions wrap."""
    return getattr(x, "pooler_output", x)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize(("side", "patch", "width", "heads"), [(32, 8, 48, 4), (36, 9, 32, 1), (30, 7, 24, 2), (16, 16, 40, 5)])
def test_outputs_are_those_of_transformers(tmp_path, activation, side, patch, width, heads):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shared = {"hidden_act": activation, "intermediate_size": 72, "num_hidden_layers": 3}
    own = tokenizer()
    marks = {"bos_token_id": own.start, "eos_token_id": own.end, "pad_token_id": own.end}
    text = {**shared, **marks, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": len(own) + 3, "max_position_embeddings": 20}
    vision = {**shared, "hidden_size": width, "num_attention_heads": heads, "image_size": side, "patch_size": patch, "layer_norm_eps": 1e-6}
    theirs = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    (tmp_path / "words").mkdir()
    write_tokenizer(tmp_path / "words", own)
    tokens = transformers.CLIPTokenizerFast.from_pretrained(tmp_path / "words")
    tokens.save_pretrained(tmp_path)  # as tokenizer.json, or as vocab.json and merges.txt, by version
    given = tokens(TEXTS, padding=True, truncation=True, max_length=20, return_tensors="pt")
    seen = pictures(3, side)
    image, words = load_image_tower(tmp_path), load_text_tower(tmp_path)
    with torch.no_grad():
        assert torch.allclose(words(TEXTS), rounded(theirs.get_text_features(**given)), atol=1e-5)
        assert torch.allclose(image.network(seen), rounded(theirs.get_image_features(pixel_values=seen)), atol=1e-5)
    assert words.scale == image.scale == pytest.approx(theirs.logit_scale.exp().item())


@pytest.mark.parametrize("kind", ["CLIPVisionModelWithProjection", "CLIPTextModelWithProjection"])
def test_a_folder_with_one_of_the_two(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    clip_folder(tmp_path / "both")
    getattr(transformers, kind).from_pretrained(tmp_path / "both").save_pretrained(tmp_path / "one")
    write_tokenizer(tmp_path / "one", tokenizer())
    load, other = (load_image_tower, load_text_tower) if "Vision" in kind else (load_text_tower, load_image_tower)
    found, expected = (load(tmp_path / name) for name in ("one", "both"))
    assert found.source["weights_hash"] == expected.source["weights_hash"]
    with pytest.raises(UsageError, match="has no transformer of"):
        other(tmp_path / "one")


def test_a_folder_that_we_write_is_opened_by_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    clip_folder(tmp_path / "clip")
    theirs = transformers.CLIPModel.from_pretrained(tmp_path / "clip").eval()
    tokens = transformers.CLIPTokenizerFast.from_pretrained(tmp_path / "clip")
    image, text = networks()
    given = tokens(TEXTS[:2], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(load_text_tower(tmp_path / "clip")(TEXTS[:2]), rounded(theirs.get_text_features(**given)), atol=1e-5)
        assert torch.allclose(image(pictures()), rounded(theirs.get_image_features(pixel_values=pictures())), atol=1e-5)
    assert theirs.logit_scale.exp().item() == pytest.approx(14.0)
    assert torch.equal(load_text_tower(tmp_path / "clip").network.tokens.weight, text.tokens.weight)


def same(image, text, **changes) -> None:
    """Two towers have the weights of `networks`, and give what those give."""
    own_image, own_text = networks(**changes)
    assert torch.allclose(image.network(pictures()), own_image(pictures()), atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(text(TEXTS), own_text(*text.numbers(TEXTS)), atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("wrap", [dict, lambda found: {"state_dict": {f"module.{name}": tensor for name, tensor in found.items()}}])
def test_openai_state_dicts(tmp_path, half, wrap):
    tensors = openai_tensors()
    if half:
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    sizes = {name: torch.tensor(size) for name, size in (("input_resolution", 36), ("context_length", 24), ("vocab_size", 600))}
    torch.save(wrap({**tensors, **sizes}), tmp_path / "ViT.pt")
    (tmp_path / "words").mkdir()
    write_tokenizer(tmp_path / "words", tokenizer())
    image, text = load_image_tower(tmp_path / "ViT.pt"), load_text_tower(tmp_path / "ViT.pt", vocabulary=tmp_path / "words")
    if half:
        assert image.network.positions.dtype == torch.float32
        assert torch.equal(image.network.positions, tensors["visual.positional_embedding"].float())
    else:
        same(image, text)
    assert image.scale == pytest.approx(torch.tensor(2.0).exp().item())


def test_the_same_weights_are_the_same_tower_in_every_form(tmp_path):
    clip_folder(tmp_path / "folder")
    torch.save(openai_tensors(), tmp_path / "ViT.pt")
    write_tokenizer(tmp_path, tokenizer())
    for load in (load_image_tower, load_text_tower):
        found = [load(tmp_path / name).source["weights_hash"] for name in ("folder", "ViT.pt")]
        assert found[0] == found[1]
    other = openai_tensors()
    other["visual.proj"][0, 0] += 1e-3
    torch.save(other, tmp_path / "other.pt")
    assert load_image_tower(tmp_path / "other.pt").source["weights_hash"] != load_image_tower(tmp_path / "folder").source["weights_hash"]
    assert load_text_tower(tmp_path / "other.pt").source["weights_hash"] == load_text_tower(tmp_path / "folder").source["weights_hash"]


def test_openclip_folders_and_files(tmp_path):
    folder = openclip_folder(tmp_path / "open")
    same(load_image_tower(folder), load_text_tower(folder), activation="gelu")
    same(load_image_tower(folder / "open_clip_model.safetensors"), load_text_tower(folder), activation="gelu")
    prepared = load_image_tower(folder).preprocessing
    assert (prepared["mean"], prepared["resample"], prepared["image_size"]) == ([0.5, 0.4, 0.3], "bilinear", 36)


def test_openclip_models_whose_text_is_apart(tmp_path):
    folder = openclip_folder(tmp_path / "open", quick_gelu=True)
    tensors = openai_tensors()
    apart = {name if name.startswith(("visual.", "logit")) else f"text.{name}": tensor for name, tensor in tensors.items()}
    save_file({**apart, "text.attn_mask": torch.zeros(2, 2)}, folder / "open_clip_model.safetensors")
    same(load_image_tower(folder), load_text_tower(folder))


def test_where_two_programs_share_a_folder_the_one_whose_weights_are_there_is_read(tmp_path):
    folder = openclip_folder(tmp_path / "open")
    clip_folder(tmp_path / "clip")
    shutil.copy(tmp_path / "clip" / "config.json", folder)
    same(load_image_tower(folder), load_text_tower(folder), activation="gelu")
    shutil.copy(tmp_path / "clip" / "model.safetensors", folder)
    same(load_image_tower(folder), load_text_tower(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision": {"timm_model_name": "vit_medium"}}, "timm_model_name"),
        ({"vision": {"pool_type": "avg"}}, 'pool_type = "avg"'),
        ({"text": {"hf_model_name": "roberta-base"}}, "hf_model_name"),
        ({"text": {"no_causal_mask": True}}, "no_causal_mask = true"),
        ({"text": {"heads": 5}}, "multiple of heads"),
    ],
)
def test_openclip_models_without_a_counterpart(tmp_path, changes, said):
    folder = openclip_folder(tmp_path / "open", **changes)
    with pytest.raises(UsageError, match=said):
        load_text_tower(folder)


def test_a_clip_tower_prepares_frames_as_transformers_does(tmp_path):
    """Bicubic, centre square, CLIP's means; two programs round single levels differently."""
    transformers = pytest.importorskip("transformers")
    clip_folder(tmp_path)
    frames = torch.randint(0, 256, (2, 6, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames = frames.repeat_interleave(12, 1).repeat_interleave(12, 2)
    theirs = transformers.CLIPImageProcessor.from_pretrained(tmp_path)
    expected = theirs(list(frames.permute(0, 3, 1, 2)), return_tensors="pt")["pixel_values"]
    found = load_image_tower(tmp_path).video_of(frames)[0]
    assert found.shape == expected.shape == (2, 3, 36, 36)
    assert (found - expected).abs().max() < 2 / 255 / 0.26
    assert (found - expected).abs().mean() < 0.2 / 255


def test_red_is_not_blue(tmp_path):
    tower = load_image_tower(clip_folder(tmp_path))
    frames = torch.zeros(1, 36, 36, 3, dtype=torch.uint8)
    frames[..., 0] = 255
    red = tower.video_of(frames)[0, 0]
    assert red[0].mean() > 1 > red[2].mean()
    assert not torch.allclose(tower.frames(frames), tower.frames(frames.flip(-1)), atol=1e-3)
