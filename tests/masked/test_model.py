"""Shapes, patches and the loss of the masked autoencoder."""

import pytest
import torch
from masked_helpers import MODEL, config, method, progress, rng, video

from tasks.core.nn.config import TargetConfig, VitConfig, n_visible
from tasks.core.nn.masked import masked_targets, normalize_cubes, take, token_errors
from tasks.masked.config import PretrainConfig
from tasks.masked.method import MaskedPretraining
from tasks.masked.model import patchify, unpatchify


@pytest.mark.parametrize(("ratio", "count"), [(0.85, 235), (0.90, 156), (0.95, 78)])
def test_visible_tokens_at_the_papers_ratios(ratio, count):
    assert VitConfig().n_tokens() == 1568
    assert n_visible(1568, ratio) == count


def test_base_model_has_the_papers_shapes_and_size():
    with torch.device("meta"):
        built = MaskedPretraining(PretrainConfig(sampler={"name": "tats", "landmarks": None}, mask_ratio=0.95))
    mae = built.autoencoder
    cubes = mae.embed.cubes(torch.empty(2, 16, 3, 224, 224, device="meta"))
    tokens = mae.embed(cubes)
    assert tokens.shape == (2, 1568, 768)
    visible, masked = torch.empty(2, 78, dtype=torch.long, device="meta"), torch.empty(2, 1490, dtype=torch.long, device="meta")
    out = mae.decode(mae.encode(take(tokens, visible), visible), visible, masked)
    assert out.shape == (2, 1490, 1536)
    encoder = sum(p.numel() for p in mae.encoder.parameters())
    assert 86e6 < encoder < 87.5e6
    assert sum(p.numel() for p in built.sampler.policy.value.parameters()) == 1_230_881


def test_patches_and_back_bit_for_bit():
    clip = torch.randn(2, 4, 3, 32, 32)
    assert torch.equal(unpatchify(patchify(clip, 2, 8), (2, 4, 4), 2, 8), clip)


def test_tokens_are_time_major_then_rows():
    clip = torch.zeros(1, 4, 3, 32, 32)
    clip[0, 2:, :, 8:16, 24:32] = 1  # time 1, row 1, column 3
    lit = patchify(clip, 2, 8).flatten(2).mean(-1)[0].nonzero().flatten().tolist()
    assert lit == [1 * 16 + 1 * 4 + 3]


def test_embedding_equals_a_convolution(float64):
    embed = method().autoencoder.embed
    clip = torch.randn(2, 4, 3, 32, 32)
    reference = torch.nn.functional.conv3d(clip.transpose(1, 2), embed.weight, embed.bias, stride=(2, 8, 8)).flatten(2).transpose(1, 2)
    assert torch.allclose(embed(embed.cubes(clip)), reference, atol=1e-12)


def test_targets_have_mean_zero_and_variance_one_per_token_and_colour(float64):
    cubes = torch.rand(2, 5, 128, 3)
    normal, mean, std = normalize_cubes(cubes)
    assert torch.allclose(normal.mean(2), torch.zeros(2, 5, 3), atol=1e-12)
    assert torch.allclose(normal.var(2, unbiased=True), torch.ones(2, 5, 3), atol=1e-4)  # less what 1e-6 beside the deviation takes
    assert torch.allclose(normal * std + mean, cubes, atol=1e-12)


def test_target_is_slow_reference(float64):
    pixels = torch.rand(1, 4, 3, 32, 32)
    masked = torch.tensor([[3, 17]])
    got = masked_targets(pixels, masked, TargetConfig(), 2, 8).view(1, 2, 128, 3)
    for row, token in enumerate((3, 17)):
        t, y, x = token // 16, token % 16 // 4, token % 4
        cube = pixels[0, 2 * t : 2 * t + 2, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].permute(0, 2, 3, 1).reshape(128, 3)
        expected = (cube - cube.mean(0)) / (cube.std(0) + 1e-6)
        assert torch.allclose(got[0, row], expected, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"normalize": False}, {"kind": "motion"}], ids=str)
def test_targets_are_made_of_levels_however_the_video_was_normalised(settings, float64):
    levels, masked = torch.rand(2, 4, 3, 32, 32), torch.arange(32).expand(2, 32)
    levels[0, :, :, :16] = levels[0, :, :, :1]  # tokens of little contrast
    levels[0, :, :, :8] *= 1e-3
    mean, std = torch.tensor([0.3, 0.5, 0.4]).view(1, 1, 3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(1, 1, 3, 1, 1)
    config = TargetConfig(**settings)
    found = masked_targets((levels - mean) / std, masked, config, 2, 8, mean, std)
    assert torch.allclose(found, masked_targets(levels, masked, config, 2, 8), atol=1e-9)


def test_loss_sees_masked_tokens_only():
    built = method()
    clip = video()
    choice, prediction = built.reconstruct(clip, rng(), progress())
    errors = built.errors(clip, choice.masked, prediction)
    patches = patchify(clip, 2, 8)
    patches.scatter_(1, choice.visible[:, :, None, None].expand(-1, -1, 128, 3), 7.0)
    changed = unpatchify(patches, (2, 4, 4), 2, 8)
    assert torch.equal(errors, built.errors(changed, choice.masked, prediction))
    target = masked_targets(built.pixels(clip), choice.masked, built.config.target, 2, 8)
    assert token_errors(target, target, "mse").abs().max() == 0


@pytest.mark.parametrize("kind", ["pixels", "motion"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_the_loss_is_the_mean_over_masked_tokens_of_the_mean_over_their_pixels(kind, normalize, loss, float64):
    """Token by token, from levels in [0, 1]: normalised per token and colour, or, if motion, per clip."""
    built = method(target={"kind": kind, "normalize": normalize, "loss": loss})
    clip = video()
    levels = clip * torch.tensor(built.config.augment.std).view(3, 1, 1) + torch.tensor(built.config.augment.mean).view(3, 1, 1)
    levels = levels - levels.mean(1, keepdim=True) if kind == "motion" else levels
    with torch.no_grad():
        choice, prediction = built.reconstruct(clip, rng(), progress())
    errors = []
    for b in range(2):
        cubes = []
        for token in choice.masked[b].tolist():
            t, y, x = token // 16, token % 16 // 4, token % 4
            cubes.append(levels[b, 2 * t : 2 * t + 2, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].permute(0, 2, 3, 1).reshape(128, 3))
        spread = torch.stack(cubes).std() + 1e-3
        for cube, guess in zip(cubes, prediction[b], strict=True):
            if normalize:
                cube = cube / spread if kind == "motion" else (cube - cube.mean(0)) / (cube.std(0) + 1e-6)
            difference = guess.view(128, 3) - cube
            errors.append(float((difference**2 if loss == "mse" else difference.abs()).mean()))
    assert len(errors) == 2 * (32 - 8)
    got = built({"video": clip}, rng(), progress())
    assert got["loss"].item() == got["reconstruction"].item() == pytest.approx(sum(errors) / len(errors), rel=1e-9)


def test_the_gradient_of_the_loss_is_that_of_its_formula(float64):
    """At the prediction: 2 (prediction - target) / (masked tokens x numbers of each)."""
    built = method(target={"normalize": False})
    choice, prediction = built.reconstruct(video(), rng(), progress())
    prediction = prediction.detach().requires_grad_()
    (got,) = torch.autograd.grad(built.errors(video(), choice.masked, prediction).mean(), prediction)
    target = patchify(built.pixels(video()), 2, 8).gather(1, choice.masked[:, :, None, None].expand(-1, -1, 128, 3)).flatten(2)
    assert got.shape == (2, 24, 384)
    assert torch.allclose(got, 2 * (prediction - target) / got.numel(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", ["pixels", "motion"])
@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_reconstruction_learns(kind, loss):
    from masked_helpers import train

    built = method(target={"kind": kind, "loss": loss, "normalize": False})  # the clips' flat ground, normalised, would be pure noise
    logs = train(built, 60, lr=3e-3, same=True)
    assert logs[-1]["reconstruction"] < 0.8 * logs[0]["reconstruction"]


def test_motion_target_of_a_still_clip_is_zero():
    still = torch.rand(1, 1, 3, 32, 32).expand(1, 4, 3, 32, 32)
    target = masked_targets(still, torch.arange(8)[None], TargetConfig(kind="motion"), 2, 8)
    assert target.abs().max() < 1e-3


def test_visible_content_reaches_the_prediction():
    built = method()
    clip = video()
    _, before = built.reconstruct(clip, rng(), progress())
    _, after = built.reconstruct(-clip, rng(), progress())
    assert not torch.allclose(before, after)


def test_config_rejects_impossible_grids():
    with pytest.raises(ValueError, match="multiple"):
        config(model={**MODEL, "frames": 5})
