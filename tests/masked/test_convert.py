"""Masked autoencoders travel: transformers both ways, original checkpoints, ONNX. The other program is the reference."""

import argparse
import json

import pytest
import torch
from masked_helpers import config as pretrain_config
from masked_helpers import method
from safetensors.torch import load_file

from tasks.core.checkpoint import save_model
from tasks.core.convert_transformers import video_preprocessing
from tasks.core.errors import InputError, UsageError
from tasks.core.nn.config import SIZES
from tasks.core.nn.masked import take
from tasks.core.reporter import Quiet
from tasks.core.towers.convert import export_onnx
from tasks.masked.convert import convert, export_transformers, load_model

SIZED = [(dim, heads, decoder) for (dim, _, heads), decoder in zip(SIZES.values(), (96, 192, 384, 512, 640), strict=True)]


@pytest.fixture(scope="module")
def reference():
    """The models of transformers; skips where it is absent."""
    pytest.importorskip("transformers")
    import videomae_reference

    return videomae_reference


def model_folder(folder, sampler=None, target=None, norm_eps=1e-5, **model):
    """A masked autoencoder with weights far from their start, as `vid pretrain` writes one."""
    changes = {
        "model": {**pretrain_config().model.model_dump(), **model},
        "target": target or {},
        "decoder": {"dim": 16, "depth": 1, "heads": 1, "norm_eps": norm_eps},
    }
    settings = pretrain_config(sampler, **changes)
    made = method(sampler, **changes).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    saved = {
        "library": "vid",
        "task": "masked",
        "method": settings.sampler.name,
        "architecture": settings.model.model_dump(),
        "decoder": settings.decoder.model_dump(),
        "sampler": settings.sampler.model_dump(mode="json"),
        "mask_ratio": 0.75,
        "target": settings.target.model_dump(),
        "preprocessing": video_preprocessing(settings.model, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], 2),
        "provenance": {},
    }
    save_model(folder, {name.removeprefix("autoencoder."): tensor for name, tensor in made.state_dict().items()}, saved, "# a card\n")
    return folder, made.autoencoder


def masked_places(n_tokens: int) -> torch.Tensor:
    """`(2, n_tokens)` bool, three of four tokens masked in each clip."""
    generator = torch.Generator().manual_seed(4)
    hidden = torch.zeros(2, n_tokens, dtype=torch.bool)
    for row in hidden:
        row[torch.randperm(n_tokens, generator=generator)[: n_tokens * 3 // 4]] = True
    return hidden


@torch.no_grad()
def difference(theirs, ours) -> float:
    """Largest difference of predicted pixels, transformers against us."""
    c = ours.encoder.config
    video = torch.randn(2, c.frames, 3, c.image_size, c.image_size, generator=torch.Generator().manual_seed(3))
    hidden = masked_places(c.n_tokens())
    numbers = torch.arange(c.n_tokens()).expand(2, -1)
    masked, visible = numbers[hidden].view(2, -1), numbers[~hidden].view(2, -1)
    prediction = ours.decode(ours.encode(take(ours.embed(ours.encoder.cubes(video)), visible), visible), visible, masked)
    return float((theirs(video, bool_masked_pos=hidden).logits - prediction).abs().max())


@pytest.mark.parametrize(("dim", "heads", "decoder"), SIZED)
def test_from_transformers_in_all_widths(reference, tmp_path, dim, heads, decoder):
    theirs = reference.pretrainer(
        hidden_size=dim,
        num_hidden_layers=1,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        decoder_hidden_size=decoder,
        decoder_num_attention_heads=8 if decoder == 640 else decoder // 32,
        decoder_intermediate_size=4 * decoder,
        layer_norm_eps=1e-6,
    )
    convert(reference.save(theirs, tmp_path / "theirs"), "transformers", tmp_path / "ours", Quiet())
    ours, saved = load_model(tmp_path / "ours")
    assert difference(theirs, ours) < 1e-5
    assert saved["preprocessing"]["mean"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    "changes",
    [
        {"use_mean_pooling": True},
        {"qkv_bias": False},
        {"layer_norm_eps": 1e-3},
        {"num_frames": 6, "tubelet_size": 3, "decoder_num_hidden_layers": 3},
        {"num_frames": 16, "image_size": 112, "patch_size": 16},
    ],
)
def test_from_transformers_with_other_settings(reference, tmp_path, changes):
    theirs = reference.pretrainer(**changes)
    convert(reference.save(theirs, tmp_path / "theirs"), "transformers", tmp_path / "ours", Quiet())
    assert difference(theirs, load_model(tmp_path / "ours")[0]) < 1e-5


@pytest.mark.parametrize("sampler", [{"name": "tube"}, {"name": "tats", "heads": 2}, {"name": "adamae", "heads": 2}])
@pytest.mark.parametrize("model", [{}, {"final_norm": False, "pos": "sincos1d-double"}])
def test_to_transformers(reference, tmp_path, sampler, model):
    from transformers import AutoModelForPreTraining

    folder, ours = model_folder(tmp_path / "ours", sampler, **model)
    result = export_transformers(folder, tmp_path / "theirs", Quiet())
    theirs, report = AutoModelForPreTraining.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert type(theirs).__name__ == result["class"] == "VideoMAEForPreTraining"
    assert not [name for name in report["missing_keys"] if not name.endswith("key.bias")]  # which some versions have and start at zero
    assert difference(theirs.eval(), ours) < 1e-5
    assert result["max_difference"] < 1e-5


def test_the_measured_difference_of_the_usual_epsilon(reference, tmp_path):
    from transformers import VideoMAEForPreTraining

    folder, ours = model_folder(tmp_path / "ours", norm_eps=1e-6)
    result = export_transformers(folder, tmp_path / "theirs", Quiet())
    theirs = VideoMAEForPreTraining.from_pretrained(tmp_path / "theirs").eval()
    assert 1e-6 < difference(theirs, ours) < 1e-4
    assert 1e-6 < result["max_difference"] < 1e-4


def test_there_and_back_changes_no_tensor(tmp_path):
    folder, _ = model_folder(tmp_path / "ours", {"name": "tats", "heads": 2}, {"normalize": False}, pos="sincos1d-double")
    export_transformers(folder, tmp_path / "theirs", Quiet())
    convert(tmp_path / "theirs", "transformers", tmp_path / "again", Quiet())
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "again"))
    assert after.keys() == {name for name in before if not name.startswith("sampler.")}
    assert all(torch.equal(before[name], after[name]) for name in after)
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "again"))
    assert all(first[key] == second[key] for key in ("preprocessing", "architecture", "target", "mask_ratio"))


def test_an_original_checkpoint(reference, tmp_path):
    theirs = reference.pretrainer(
        hidden_size=192,
        num_attention_heads=3,
        intermediate_size=768,
        decoder_hidden_size=192,
        decoder_num_attention_heads=3,
        decoder_intermediate_size=768,
        layer_norm_eps=1e-6,
    )
    theirs.decoder.norm.eps = 1e-6  # as the original code has it
    tensors = reference.original(theirs, pretraining=True)
    settings = argparse.Namespace(input_size=16, num_frames=4, sampling_rate=2, mask_ratio=0.75, normlize_target=False)
    torch.save({"model": tensors, "args": settings, "epoch": 3, "scaler": {"scale": 1.0}}, tmp_path / "checkpoint.pth")
    convert(tmp_path / "checkpoint.pth", "videomae-pth", tmp_path / "ours", Quiet())
    ours, saved = load_model(tmp_path / "ours")
    assert difference(theirs, ours) < 1e-5
    assert (saved["mask_ratio"], saved["target"]["normalize"], saved["preprocessing"]["stride_frames"]) == (0.75, False, 2)
    tensors["encoder.pos_embed"] = torch.zeros(1)
    torch.save({"model": tensors, "args": settings}, tmp_path / "checkpoint.pth")
    with pytest.raises(InputError, match=r"unexpected encoder\.pos_embed"):
        convert(tmp_path / "checkpoint.pth", "videomae-pth", tmp_path / "ours", Quiet())


def test_the_converted_encoder_starts_a_classifier(reference, tmp_path):
    from tasks.core.towers import load_encoder

    theirs = reference.pretrainer()
    convert(reference.save(theirs, tmp_path / "theirs"), "transformers", tmp_path / "ours", Quiet())
    encoder = load_encoder(tmp_path / "ours")
    video = reference.video(theirs.config)
    with torch.no_grad():
        assert torch.allclose(encoder(video)["tokens"], theirs.videomae(video).last_hidden_state, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "model", "message"),
    [
        ({"kind": "motion"}, {}, "reconstructs pixels"),
        ({}, {"pos": "sincos3d"}, "pos is sincos3d"),
        ({}, {"input": "motion"}, "input is motion"),
        ({}, {"pos_scale": 2.0}, "pos_scale is 2"),
    ],
)
def test_what_transformers_lacks_is_refused(tmp_path, target, model, message):
    folder, _ = model_folder(tmp_path / "ours", target=target, **model)
    with pytest.raises(UsageError, match=message):
        export_transformers(folder, tmp_path / "theirs", Quiet())
    assert not (tmp_path / "theirs").exists()


def test_onnx_gives_our_tokens(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, ours = model_folder(tmp_path / "ours", {"name": "tats", "heads": 2}, pos="sincos3d")
    assert export_onnx(folder, tmp_path / "onnx", Quiet())["max_difference"] < 1e-4
    c = ours.encoder.config
    video = torch.randn(3, c.frames, 3, c.image_size, c.image_size)
    (tokens,) = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx")).run(["tokens"], {"video": video.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(tokens), ours.encoder(video), atol=1e-4)
