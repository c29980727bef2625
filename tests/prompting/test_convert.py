"""Checkpoints of Efficient-Prompt: against what the public code answers, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import prompting_toys as toys
import pytest
import torch
import torch.nn.functional as F
from clip_toys import CONTEXT, IMAGE_SIZE, openai_tensors, tokenizer
from painted import write_video

from tasks.core.checkpoint import load_config
from tasks.core.errors import InputError, UsageError
from tasks.core.reporter import Quiet
from tasks.core.towers import load_image_tower, load_text_tower
from tasks.core.towers.clip_write import write_tokenizer
from tasks.prompting.config import PromptConfig
from tasks.prompting.convert import convert
from tasks.prompting.names import pad
from tasks.prompting.opened import load_prompted
from tasks.prompting.predict import text_of
from tasks.prompting.towers import recalled_tower
from vidcli.app import main

DIM, FRAMES = 20, 4


def public(layers: int = 1, frozen: bool = True) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by their public names."""
    draws = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=draws)

    found = {"embedding.weight": normal(CONTEXT, 64), "temporalEmbedding.weight": normal(FRAMES, DIM)}
    for number in range(layers):
        block = f"temporalModelling.resblocks.{number}."
        shapes = {"attn.in_proj_weight": (3 * DIM, DIM), "attn.in_proj_bias": (3 * DIM,), "attn.out_proj.weight": (DIM, DIM)}
        shapes |= {"attn.out_proj.bias": (DIM,), "mlp.c_fc.weight": (4 * DIM, DIM), "mlp.c_fc.bias": (4 * DIM,)}
        shapes |= {"mlp.c_proj.weight": (DIM, 4 * DIM), "mlp.c_proj.bias": (DIM,)}
        shapes |= {f"ln_{norm}.{part}": (DIM,) for norm in (1, 2) for part in ("weight", "bias")}
        found |= {block + name: normal(*shape) for name, shape in shapes.items()}
    clip = {f"clipmodel.{name}": tensor for name, tensor in openai_tensors().items()} if frozen else {}
    return {**found, **clip}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    torch.save({"state_dict": public(), "optimizer": {}, "iteration": 3}, tmp_path / "checkpoint.pth.tar")
    (tmp_path / "settings.json").write_text(json.dumps({"prefix": 3, "postfix": 2, "tfm_heads": 4}))
    (tmp_path / "vocabulary").mkdir()
    write_tokenizer(tmp_path / "vocabulary", tokenizer())
    return tmp_path / "checkpoint.pth.tar"


def test_a_checkpoint_is_used_like_any_model(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    words = ["convert", checkpoint, "-o", tmp_path / "model", "--vocabulary", tmp_path / "vocabulary", "--set", "postfix=3"]
    assert main([str(word) for word in words]) == 0
    saved = load_config(tmp_path / "model")
    assert saved["architecture"]["prompts"] == {"before": 3, "after": 3, "layout": "positional"}
    assert saved["architecture"]["temporal"]["heads"] == 4
    write_video(tmp_path / "a.mp4", 12)
    write_video(tmp_path / "b.mp4", 12)
    (tmp_path / "videos.csv").write_text("path,label\na.mp4,red_square\nb.mp4,blue_circle\n")
    capsys.readouterr()
    assert main(["eval", "classify", "--model", str(tmp_path / "model"), "--data", str(tmp_path / "videos.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["classes"] == 2


def test_without_a_vocabulary_it_is_given_later(checkpoint, tmp_path):
    convert(checkpoint, "efficient-prompt", tmp_path / "model", Quiet())
    model, saved = load_prompted(str(tmp_path / "model"))
    tower = recalled_tower(saved, str(tmp_path / "model"), None, str(tmp_path / "vocabulary"))
    assert text_of(model, tower, ["red square", "a dog"]).shape == (2, DIM)
    with pytest.raises(UsageError, match="no vocabulary"):
        recalled_tower(saved, str(tmp_path / "model"), None, None)


def test_the_frozen_towers_are_written_as_they_were(checkpoint, tmp_path):
    convert(checkpoint, "efficient-prompt", tmp_path / "model", Quiet(), vocabulary=tmp_path / "vocabulary")
    text, image = load_text_tower(str(tmp_path / "model-clip")), load_image_tower(str(tmp_path / "model-clip"))
    there = openai_tensors()
    assert torch.equal(text.network.tokens.weight, there["token_embedding.weight"])
    assert torch.equal(text.network.layers[1].qkv.weight, there["transformer.resblocks.1.attn.in_proj_weight"])
    assert torch.equal(image.network.projection.weight, there["visual.proj"].T)
    assert image.network.config.image_size == IMAGE_SIZE
    assert text.network.config.heads == 1
    assert text.scale == pytest.approx(float(there["logit_scale"].exp()))


def test_temporal_layers_are_those_of_torch(checkpoint, tmp_path):
    """Against torch's own attention, batch second, as the public code has it."""
    convert(checkpoint, "efficient-prompt", tmp_path / "model", Quiet())
    model, _ = load_prompted(str(tmp_path / "model"))
    tensors = {name.removeprefix("temporalModelling.resblocks.0."): tensor for name, tensor in public().items()}
    clips = torch.randn(3, FRAMES, DIM, generator=torch.Generator().manual_seed(0))
    attention = torch.nn.MultiheadAttention(DIM, 4)
    attention.load_state_dict({name.removeprefix("attn."): t for name, t in tensors.items() if name.startswith("attn.")})
    x = (clips + tensors["temporalEmbedding.weight"]).transpose(0, 1)
    normed = F.layer_norm(x, (DIM,), tensors["ln_1.weight"], tensors["ln_1.bias"])
    x = x + attention(normed, normed, normed)[0]
    inner = F.linear(
        F.layer_norm(x, (DIM,), tensors["ln_2.weight"], tensors["ln_2.bias"]), tensors["mlp.c_fc.weight"], tensors["mlp.c_fc.bias"]
    )
    x = x + F.linear(inner * torch.sigmoid(1.702 * inner), tensors["mlp.c_proj.weight"], tensors["mlp.c_proj.bias"])
    assert torch.allclose(model.video_features(clips), x.mean(0), atol=1e-5)


def changed(checkpoint: Path, **tensors: torch.Tensor | None) -> Path:
    found = {name: tensor for name, tensor in {**public(), **tensors}.items() if tensor is not None}
    torch.save({"state_dict": found}, checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"surprise.weight": torch.zeros(1)}, "it has 'surprise.weight'"),
        ({"temporalModelling.resblocks.0.attn.more": torch.zeros(1)}, "unexpected temporalModelling.resblocks.0.attn.more"),
        ({"temporalModelling.resblocks.0.ln_1.bias": None}, "missing temporalModelling.resblocks.0.ln_1.bias"),
        ({"embedding.weight": None}, "missing embedding.weight"),
        ({"clipmodel.more.weight": torch.zeros(1)}, "unexpected more.weight"),
        ({"clipmodel.ln_final.weight": None}, "missing ln_final.weight"),
        ({"embedding.weight": torch.zeros(CONTEXT, 8)}, "prompts.table has shape"),
        ({"temporalEmbedding.weight": torch.full((FRAMES, DIM), torch.nan)}, "temporal.positions"),
    ],
)
def test_what_has_no_place_is_named(checkpoint, tmp_path, tensors, said):
    with pytest.raises((InputError, UsageError), match=said):
        convert(changed(checkpoint, **tensors), "efficient-prompt", tmp_path / "model", Quiet())
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prefx": 3}, "no setting 'prefx'"),
        ({"prefix": -1}, "prefix is a whole number"),
        ({"tfm_heads": 3}, "do not divide by tfm_heads 3"),
        ({"prefix": 20, "postfix": 10}, "leaves no room"),
    ],
)
def test_settings_that_cannot_be(checkpoint, tmp_path, settings, said):
    with pytest.raises((InputError, UsageError), match=said):
        convert(checkpoint, "efficient-prompt", tmp_path / "model", Quiet(), settings)


def test_a_checkpoint_without_temporal_layers(checkpoint, tmp_path):
    torch.save({"state_dict": public(0)}, checkpoint)
    convert(checkpoint, "efficient-prompt", tmp_path / "model", Quiet())
    model, _ = load_prompted(str(tmp_path / "model"))
    clips = toys.batch()["clip"]
    assert torch.equal(model.video_features(clips), clips.mean(1))


@pytest.mark.real
@pytest.mark.slow
def test_the_public_code_on_random_weights(real_data, tmp_path):
    folder = real_data.parent / "parity" / "prompt_full_l2"
    if not folder.exists():
        pytest.skip("no parity cases beside this checkout")
    tool = real_data.parent / "parity" / "tools" / "weights.py"
    subprocess.run([sys.executable, str(tool), str(folder / "checkpoint.recipe.json"), str(tmp_path / "c.pth.tar")], check=True)
    convert(tmp_path / "c.pth.tar", "efficient-prompt", tmp_path / "model", Quiet())
    (tmp_path / "c.pth.tar").unlink()
    model, _ = load_prompted(str(tmp_path / "model"))
    from tasks.core.nn.clip import TextTransformer
    from tasks.core.towers.clip_source import read_clip

    settings, weights = read_clip(str(tmp_path / "model-clip")).text()
    tower = TextTransformer(settings)
    tower.load_state_dict(weights)
    given, expected = (np.load(folder / f"{name}.npz") for name in ("inputs", "expected"))
    ids, ends = given["tokens"], given["tokens"].argmax(1)
    tokens = pad([row[1:end].tolist() for row, end in zip(ids, ends, strict=True)], int(ids[0, 0]), int(ids[0, ends[0]]))

    def agree(name: str, found: torch.Tensor, atol: float = 1e-4) -> None:
        np.testing.assert_allclose(found.detach().numpy(), expected[name], rtol=1e-4, atol=atol, err_msg=name)

    def text(before: int, after: int) -> torch.Tensor:
        model.prompts.config = PromptConfig(before=before, after=after, layout="positional")
        return model.text_features(tower, tokens.ids, tokens.lengths, tokens.marks)

    with torch.no_grad():
        for before, after in ((0, 0), (4, 4), (2, 7)):
            agree(f"text_features_prefix{before}_postfix{after}", text(before, after))
    words, clips = text(16, 16), torch.from_numpy(given["features"])
    video = model.video_features(clips)
    logits = model.logits(video, words)
    agree("text_features", words)
    agree("video_features", video)
    agree("logits", logits)
    loss = F.cross_entropy(logits, torch.from_numpy(given["targets"]))
    loss.backward()
    agree("loss", loss)
    agree("grad_prompt_table", model.prompts.table.grad, 2e-5)
    agree("grad_temporal_table", model.temporal.positions.grad, 2e-5)
    with torch.no_grad():
        found = torch.stack([model.logits(model.video_features(each), words) for each in torch.from_numpy(given["ensemble_features"])])
    agree("val_probabilities", found.softmax(-1).mean(0))
