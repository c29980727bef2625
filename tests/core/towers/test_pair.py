"""Models of video and text in one space, from hand-made model folders."""

import json
from pathlib import Path

import pytest
import torch
from clip_toys import clip_folder, text_config, tokenizer

from tasks.core.checkpoint import save_model
from tasks.core.errors import UsageError
from tasks.core.nn.clip import TextTransformer
from tasks.core.nn.config import VitConfig
from tasks.core.nn.encoders import build_encoder, pooled_of
from tasks.core.towers import load_encoder, load_text_tower
from tasks.core.towers.config import ExtractConfig
from tasks.core.towers.extract import Extractor
from tasks.core.towers.pair import MappedTower, load_pair_encoder, pair_folder
from tasks.core.towers.text_tower import TextTower

VIT = VitConfig(dim=32, depth=1, heads=2, image_size=32, frames=2, patch=8, class_token=True)
SEEN = {"image_size": 32, "frames": 2, "sampling": "dense", "stride_frames": 1, "crop": "center", "mean": [0.5] * 3, "std": [0.5] * 3}
TEXTS = ["a red square moves", "the cat"]


def written(folder: Path, tower: dict, dim: int, extra: dict[str, torch.Tensor] | None = None, **changes) -> Path:
    """A model folder; `tower` is its `text_tower`, `extra` more tensors."""
    torch.manual_seed(0)
    encoder = build_encoder(VIT)
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights |= {"video_projection.weight": torch.randn(dim, 32), **(extra or {})}
    saved = {"task": "contrastive", "method": "video-text", "architecture": VIT.model_dump(), "preprocessing": SEEN}
    saved |= {"pair": {"dim": dim, "scale": 20.0, "cosine": True}, "text_tower": tower, **changes}
    save_model(folder, weights, saved, "# toy\n")
    return folder


def with_own_text(folder: Path) -> tuple[Path, TextTransformer]:
    """A folder whose text was trained."""
    torch.manual_seed(1)
    network = TextTransformer(text_config()).eval()
    own = {"architecture": text_config().model_dump(), "vocabulary": tokenizer().vocabulary, "merges": tokenizer().merges}
    return written(folder, own, 20, {f"text.{name}": tensor for name, tensor in network.state_dict().items()}), network


def test_the_video_side_is_the_encoder_and_its_map(tmp_path):
    folder, _ = with_own_text(tmp_path / "model")
    encoder, plain = load_pair_encoder(str(folder)), load_encoder(folder)
    frames = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8)
    with torch.no_grad():
        before, after = plain(frames)["pooled"], encoder(frames)["pooled"]
        torch.testing.assert_close(after, before @ encoder.projection.weight.T)
        torch.testing.assert_close(before, pooled_of(plain.network.outputs(plain.video_of(frames))))
    assert (plain.dim, encoder.dim, after.shape) == (32, 20, (1, 20))
    assert not encoder.training
    extractor = Extractor(ExtractConfig(model=str(folder), device="cpu"))
    assert extractor.dim == 20


def test_text_that_was_trained(tmp_path):
    folder, network = with_own_text(tmp_path / "run" / "model")
    for place in (folder, tmp_path / "run"):
        tower = load_text_tower(place)
        assert isinstance(tower, TextTower)  # prompts can be put in
        assert (tower.dim, tower.scale) == (20, 20.0)
        with torch.no_grad():
            torch.testing.assert_close(tower(TEXTS), network(*tower.numbers(TEXTS)))
        assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_a_frozen_tower_as_it_is_and_behind_a_map(tmp_path):
    clip = load_text_tower(clip_folder(tmp_path / "clip"))
    plain = load_text_tower(written(tmp_path / "plain", clip.source, 20))
    assert isinstance(plain, TextTower)
    torch.testing.assert_close(plain(TEXTS), clip(TEXTS))
    assert plain.source == clip.source
    torch.manual_seed(2)
    projection = torch.randn(7, 20)
    mapped = load_text_tower(written(tmp_path / "mapped", clip.source, 7, {"text_projection.weight": projection}))
    assert isinstance(mapped, MappedTower)
    torch.testing.assert_close(mapped(TEXTS), clip(TEXTS) @ projection.T)
    assert mapped.source["weights_hash"] != clip.source["weights_hash"]
    other = load_text_tower(written(tmp_path / "other", clip.source, 7, {"text_projection.weight": projection + 1}))
    assert other.source["weights_hash"] != mapped.source["weights_hash"]  # what was kept of one is not taken for the other


def test_what_does_not_fit_is_one_clear_line(tmp_path):
    folder, _ = with_own_text(tmp_path / "model")
    found = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**found, "pair": {**found["pair"], "dim": 21}}))
    with pytest.raises(UsageError, match=r"weight has shape \(20, 32\), not \(21, 32\)"):
        load_pair_encoder(str(folder))
    (folder / "config.json").write_text(json.dumps({**found, "text_tower": {**found["text_tower"], "merges": [["x", "y"]]}}))
    with pytest.raises(UsageError, match="lacks the token 'xy'"):
        load_text_tower(folder)
    (folder / "config.json").write_text(json.dumps({**found, "pair": 3}))
    with pytest.raises(UsageError, match="'pair' must be a mapping"):
        load_text_tower(folder)
    del found["pair"]
    (folder / "config.json").write_text(json.dumps(found))
    assert pair_folder(folder) is None
    with pytest.raises(UsageError, match="has no text tower"):
        load_text_tower(folder)
    with pytest.raises(UsageError, match="no model of video and text"):
        load_pair_encoder(str(folder))
