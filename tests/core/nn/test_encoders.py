"""What every backbone in the table promises; a family without a tiny example here is an error."""

import pytest
import torch
from encoder_toys import FRAMES, SIZE, TINY, encoder_folder, tiny_encoder, tiny_settings
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms.v2 import functional as F

from tasks.classify.config import FinetuneConfig
from tasks.classify.heads import HEADS
from tasks.classify.method import Classification
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.errors import UsageError
from tasks.core.nn.encoders import FAMILIES, build_encoder, encoder_settings, pooled_of, saved_settings, tokens_of, usable_weights
from tasks.core.nn.shared_norm import SharedBatchNorm
from tasks.core.towers import load_encoder

every_family = pytest.mark.parametrize("family", sorted(FAMILIES))


def clips(n: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def test_every_family_has_a_tiny_example():
    assert TINY.keys() == FAMILIES.keys()


@every_family
def test_settings_say_their_family_and_what_the_network_takes(family):
    settings = tiny_settings(family)
    assert FAMILIES[family].settings.model_fields["family"].default == settings.family == family
    assert settings.image_size == SIZE
    assert settings.frames in (None, FRAMES)
    assert encoder_settings(settings.model_dump(), "x") == settings


@every_family
def test_forward_and_backward(family):
    encoder = build_encoder(tiny_settings(family)).train()
    out = encoder.outputs(clips(3))
    found = out[encoder.output]
    assert encoder.output == ("tokens" if "tokens" in out else "map")
    assert found.ndim == (3 if encoder.output == "tokens" else 5)
    assert tokens_of(out).shape[::2] == (3, encoder.dim)
    assert pooled_of(out).shape == (3, encoder.dim)
    (tokens_of(out) * torch.randn(encoder.dim)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


@every_family
def test_a_clip_is_encoded_for_itself_in_evaluation_mode(family):
    encoder = tiny_encoder(family)
    both, first = clips(2), clips(2)[:1]
    with torch.no_grad():
        torch.testing.assert_close(tokens_of(encoder.outputs(both))[:1], tokens_of(encoder.outputs(first)), rtol=1e-4, atol=1e-4)
        moved = encoder.outputs(both.flip(1))
    assert not torch.allclose(tokens_of(moved), tokens_of(encoder.outputs(both)), atol=1e-3)  # time matters


@every_family
def test_layer_of_every_parameter(family):
    """Layers are numbered in the order in which the frames go through them, and each has parameters."""
    encoder = tiny_encoder(family)
    layers = [encoder.layer_of(name) for name, _ in encoder.named_parameters()]
    assert layers[0] == 0
    assert layers == sorted(layers)
    assert set(range(encoder.depth + 1)) <= set(layers) <= set(range(encoder.depth + 2))


@every_family
def test_layer_decay_reaches_every_layer(family):
    config = FinetuneConfig(optim={"layer_decay": 0.5}, model=TINY[family] | {"family": family})
    method = Classification(config, config.model, 3)
    depth = method.classifier.encoder.depth
    scales = {id(p): group["lr_scale"] for group in method.optimizers()["main"].groups for p in group["params"]}
    for name, parameter in method.classifier.named_parameters():
        layer = method.classifier.encoder.layer_of(name.removeprefix("encoder.")) if name.startswith("encoder.") else depth + 1
        assert scales[id(parameter)] == 0.5 ** (depth + 1 - layer)


@every_family
@pytest.mark.parametrize("mode", sorted(HEADS))
def test_every_head_on_every_family(family, mode):
    method = Classification(FinetuneConfig(head={"mode": mode, "init_scale": 1.0}), tiny_settings(family), 5).train()
    before = {name: tensor.clone() for name, tensor in method.classifier.encoder.state_dict().items()}
    losses = method({"video": clips(3), "target": torch.eye(5)[:3]}, BatchRandom(0, 0, rows=3), Progress(0, 0, 1, 1))
    losses["loss"].backward()
    whole = mode == "finetune"
    norms = [m for m in method.modules() if isinstance(m, _BatchNorm)]
    assert all(isinstance(norm, SharedBatchNorm) for norm in norms)
    assert all((p.grad is not None) == whole for p in method.classifier.encoder.parameters())
    assert all(p.grad is not None for p in method.classifier.head.parameters())
    if not whole:  # running statistics of a frozen encoder do not move either
        assert all(torch.equal(tensor, before[name]) for name, tensor in method.classifier.encoder.state_dict().items())


@every_family
def test_a_model_folder_gives_the_encoder_back(family, tmp_path):
    encoder = encoder_folder(tmp_path / "model", family)
    loaded = load_encoder(tmp_path / "model")
    assert not loaded.training
    assert loaded.dim == encoder.dim
    with torch.no_grad():
        out, expected = loaded(clips()), encoder.outputs(clips())
    assert all((out[name] - expected[name]).abs().max() == 0 for name in expected)
    assert (out["pooled"] - pooled_of(expected)).abs().max() == 0


@every_family
@pytest.mark.parametrize(
    ("size", "short_side", "scaled"),
    [((40, 56), None, [(32, 45)]), ((70, 50), 40, [(56, 40), (45, 32)]), ((32, 32), None, [])],
)
def test_frames_are_prepared_as_the_folder_says(family, size, short_side, scaled, tmp_path):
    encoder = encoder_folder(tmp_path / "model", family, short_side=short_side)
    frames = torch.randint(0, 256, (FRAMES, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip = frames.permute(0, 3, 1, 2)
    for height, width in scaled:
        clip = F.resize(clip, [height, width], antialias=True)
    top, left = (clip.shape[2] - SIZE) // 2, (clip.shape[3] - SIZE) // 2
    normalised = F.normalize(clip[..., top : top + SIZE, left : left + SIZE] / 255, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    loaded = load_encoder(tmp_path / "model")
    with torch.no_grad():
        expected = encoder.outputs(normalised[None])[encoder.output]
        for given in (frames, frames.numpy()):
            torch.testing.assert_close(loaded(given)[encoder.output], expected, rtol=1e-4, atol=1e-4)


def test_whole_frames_are_squeezed_where_the_model_saw_them_so(tmp_path):
    encoder = encoder_folder(tmp_path / "model", "resnet", crop="none")
    frames = torch.randint(0, 256, (FRAMES, 40, 60, 3), dtype=torch.uint8)
    clip = F.resize(frames.permute(0, 3, 1, 2), [SIZE, SIZE], antialias=True) / 255
    loaded = load_encoder(tmp_path / "model")
    expected = encoder.outputs(F.normalize(clip, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4])[None])["map"]
    torch.testing.assert_close(loaded(frames)["map"], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="no 3 crops"):
        loaded.features("any.mp4", crops=3)


@every_family
def test_what_is_neither_frames_nor_clips_is_refused(family, tmp_path):
    encoder_folder(tmp_path / "model", family)
    encoder = load_encoder(tmp_path / "model")
    for wrong in (torch.zeros(4, 3, 32, 32), torch.zeros(4, 32, 32, 3), torch.zeros(1, 4, 32, 32, 3, dtype=torch.uint8), clips().long()):
        with pytest.raises(UsageError, match="frames \\(T, H, W, 3\\) uint8 or clips"):
            encoder(wrong)


def saved(task, **architecture):
    return {"task": task, "architecture": architecture}


def test_folders_from_before_families_were_named():
    assert saved_settings(saved("masked", size="tiny"), "x").family == "vit"
    assert saved_settings(saved("classify", size="tiny"), "x").family == "vit"
    assert saved_settings(saved("boundaries", size="resnet18"), "x").family == "resnet"
    assert saved_settings(saved("classify", size="resnet18", family="resnet"), "x").family == "resnet"
    with pytest.raises(UsageError, match="'anomalies', which has no encoder of clips"):
        saved_settings(saved("anomalies", parts=[]), "x")
    for strange in ("resnett", 3, ["vit"], "\x1b[2J"):
        with pytest.raises(UsageError, match="unknown family") as error:
            saved_settings(saved("masked", family=strange), "x")
        assert error.value.message.isprintable()
    with pytest.raises(UsageError, match="did you mean 'resnet'"):
        saved_settings(saved("masked", family="resnett"), "x")


def test_a_final_norm_is_left_out_where_the_head_has_it():
    settings = tiny_settings("vit")
    weights = build_encoder(settings).state_dict()
    bare = build_encoder(settings, final_norm=False)
    bare.load_state_dict(usable_weights(bare, weights))
    assert usable_weights(build_encoder(settings), weights).keys() == weights.keys()


def test_a_map_becomes_tokens_in_the_order_of_a_transformer():
    places = torch.arange(2 * 3 * 4).view(1, 1, 2, 3, 4)
    assert tokens_of({"map": places.expand(1, 5, 2, 3, 4)})[0, :, 0].tolist() == list(range(24))
    given = {"tokens": torch.rand(2, 3, 4), "pooled": torch.ones(2, 4)}
    assert torch.equal(pooled_of(given), torch.ones(2, 4))  # a family that pools in its own way


def test_a_clip_of_one_frame_is_a_picture():
    encoder = tiny_encoder("resnet")
    frames = clips(2)[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(encoder.outputs(frames[:, None])["map"][:, :, 0], encoder(frames))
