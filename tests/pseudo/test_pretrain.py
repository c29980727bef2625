"""Training of the inpainting model: losses, both stages, the published folder, resuming."""

import itertools
import signal

import numpy as np
import pytest
import tiny_models
import torch
from pinned import same_everywhere

from tasks.core.checkpoint import find_model, load_config, load_weights
from tasks.core.data.sampler import StepSampler
from tasks.core.engine.method import Progress
from tasks.core.engine.random import BatchRandom
from tasks.core.engine.run import Run, read_metrics
from tasks.core.errors import InputError, Preempted, UsageError
from tasks.pseudo import pretrain
from tasks.pseudo.config import GenerateConfig
from tasks.pseudo.inpaint import inpaint
from tasks.pseudo.method import LatentInpainting, normal, training_holes
from tasks.pseudo.pipeline import load


def method(seed=0, **changes) -> LatentInpainting:
    torch.manual_seed(seed)
    return LatentInpainting(tiny_models.config(**changes))


def batch(n=4, seed=0):
    frames = tiny_models.frames(n, 32, 32, seed)
    video = torch.from_numpy(frames).permute(0, 3, 1, 2).to(torch.get_default_dtype()).div(127.5).sub(1)[:, None]
    return {"video": video, "holes": training_holes([seed + i for i in range(n)], 32, 32).to(video)}


def at(step, total=10):
    return Progress(step, 0, total, total)


def steps(trained, count, start, total, lr=2e-3):
    """A plain loop; returns the logs."""
    optimizer = torch.optim.AdamW(trained.optimizers()["main"].groups, lr=lr)
    logs = []
    for step in range(start, start + count):
        losses = trained(batch(8, 10 * step), BatchRandom(0, step, rows=8), at(step, total))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        logs.append({key: float(value.detach()) for key, value in losses.items()})
    return logs


def test_each_stage_trains_its_own_part():
    trained = method(autoencoder_share=0.4)
    assert trained.autoencoder_steps(10) == 4
    for step, own in ((0, "autoencoder"), (3, "autoencoder"), (4, "unet"), (9, "unet")):
        trained.zero_grad(set_to_none=True)
        trained(batch(), BatchRandom(0, step, rows=4), at(step))["loss"].backward()
        touched = {name.split(".")[0] for name, p in trained.named_parameters() if p.grad is not None}
        assert touched == {own}
        assert all(p.grad is not None for p in getattr(trained, own).parameters())


def test_denoising_loss_by_hand():
    """v = sqrt(a) noise - sqrt(1 - a) z on standardised latents, with the 7 channels in order."""
    trained = method()
    trained(batch(), BatchRandom(0, 0, rows=4), at(0))
    inside = []
    trained.unet.register_forward_hook(lambda module, args, out: inside.append((args[0], args[1], out.sample)))
    given = batch()
    loss = trained(given, BatchRandom(0, 9, rows=4), at(9))["loss"]
    x, t, guess = inside[0]
    rng = BatchRandom(0, 9, rows=4)
    noise, times = normal(rng, 4, 3, 16, 16), (rng.rand(4) * 1000).long()
    assert (t == times).all()
    betas = torch.linspace(0.0015**0.5, 0.0205**0.5, 1000, dtype=torch.float64) ** 2
    a = torch.cumprod(1 - betas, 0)[times].view(4, 1, 1, 1).float()
    with torch.no_grad():
        pictures = given["video"][:, 0]
        z = (trained.autoencoder.encode(pictures).latents - trained.mean[:, None, None]) / trained.std
        hidden = torch.where(given["holes"] > 0, -torch.ones(()), pictures)
        known = (trained.autoencoder.encode(hidden).latents - trained.mean[:, None, None]) / trained.std
    torch.testing.assert_close(x[:, :3], a.sqrt() * z + (1 - a).sqrt() * noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x[:, 3:6], known, atol=1e-4, rtol=1e-4)
    assert (x[:, 6:] == 2 * given["holes"][:, :, ::2, ::2] - 1).all()
    expected = (guess - (a.sqrt() * noise - (1 - a).sqrt() * z)).square().mean()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)


def test_normal_numbers_are_normal_and_of_the_row():
    drawn = normal(BatchRandom(0, 0, rows=8), 8, 3, 64, 64)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1, abs=0.02)
    assert torch.isfinite(drawn).all()
    second = BatchRandom(0, 0, rows=4, rank=1, world=2)
    torch.testing.assert_close(normal(second, 4, 3, 64, 64), drawn[4:])


def test_running_statistics_are_those_of_the_latents():
    trained = method()
    trained(batch(), BatchRandom(0, 0, rows=4), at(0))
    with torch.no_grad():
        latents = trained.autoencoder.encode(batch()["video"][:, 0]).latents
    torch.testing.assert_close(trained.mean, latents.mean((0, 2, 3)))
    centred = latents - latents.mean((0, 2, 3))[:, None, None]
    torch.testing.assert_close(trained.std, centred.square().mean().sqrt(), rtol=1e-3, atol=1e-5)


def test_unused_codes_come_back_to_life():
    trained = method(revive_every=2)
    with torch.no_grad():
        trained.autoencoder.quantize.embedding.weight.fill_(100.0)
        trained.autoencoder.quantize.embedding.weight[0] = 0.0
    for step in range(3):
        trained(batch(), BatchRandom(0, step, rows=4), at(step))
    codes = trained.autoencoder.quantize.embedding.weight
    assert codes.abs().max() < 50
    assert int((trained.used > 0).sum()) > 4


def test_losses_are_pinned(float64):
    """Two steps of each stage; changes here change every model that is trained from now on."""
    trained = same_everywhere(method())
    logged = steps(trained, 2, 0, 4) + steps(trained, 2, 2, 4)
    assert [log["loss"] for log in logged] == pytest.approx([0.6328362491, 0.4656187491, 2.042322184, 1.328465081], rel=1e-7)


def test_both_losses_fall():
    trained = method(autoencoder_share=0.5)
    logs = steps(trained, 50, 0, 100, 4e-3) + steps(trained, 50, 50, 100, 4e-3)
    assert logs[49]["reconstruction"] < 0.5 * logs[0]["reconstruction"]
    denoising = [log["denoising"] for log in logs[50:]]
    assert np.mean(denoising[-10:]) < 0.7 * np.mean(denoising[:5])


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.setenv("VID_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        tiny_models.write_video(tmp_path / "videos" / f"v{number}.mp4", 8, number)
    return tmp_path / "videos"


def settings(videos, **train):
    return tiny_models.config(
        data={"train": [str(videos)], "clip": {"frames": 1}, "preload": True, "workers": 0},
        train={"epochs": 3, "batch_size": 2, "log_every_steps": 1, "precision": "fp32", **train},
        optim={"base_lr": 1e-3, "scale_lr": False},
        visualize=2,
    )


def run_in(folder, config):
    opened = Run.open(folder, config, "pseudo", "pretrain", ["test"])
    try:
        return pretrain.run(config, opened)
    finally:
        opened.close()


def test_a_run_publishes_a_folder_that_both_worlds_can_read(videos, tmp_path):
    config = settings(videos)
    result = run_in(tmp_path / "run", config)
    assert result["steps"] == 6
    assert {"reconstruction", "denoising"} <= set(result)
    assert (tmp_path / "run" / "pictures" / "fills.png").stat().st_size > 1000
    folder = find_model(str(tmp_path / "run"))
    assert load_config(folder)["method"] == "ldm-inpaint"
    from diffusers import DDIMScheduler, UNet2DModel, VQModel

    vqvae, unet = VQModel.from_pretrained(folder / "vqvae"), UNet2DModel.from_pretrained(folder / "unet")
    assert DDIMScheduler.from_pretrained(folder / "scheduler").config.clip_sample is False
    weights = load_weights(folder)
    for name, net in (("vqvae", vqvae), ("unet", unet)):
        assert all((weights.pop(f"{name}.{key}") == value).all() for key, value in net.state_dict().items())
    assert not weights

    loaded = load(GenerateConfig(model=str(tmp_path / "run"), steps=2), torch.device("cpu"))
    assert (loaded.filler.size, loaded.filler.short_side) == (32, None)
    assert loaded.facts["provenance"]["videos"] == 4
    frames, masks = tiny_models.frames(2), np.zeros((2, 48, 64), bool)
    masks[:, 10:30, 10:30] = True
    assert (inpaint(loaded.filler, frames, masks, [0, 1])[~masks] == frames[~masks]).all()


def test_a_run_whose_first_and_last_batch_cannot_be_read(videos, tmp_path):
    (videos / "broken.mp4").write_bytes(b"no video")  # the first of five rows
    orders = ((seed, [keys[0][0] for keys in itertools.islice(StepSampler(5, 1, seed=seed), 7)]) for seed in itertools.count())
    seed = next(seed for seed, order in orders if order[0] == order[6] == 0)
    result = run_in(tmp_path / "run", settings(videos, batch_size=1, max_steps=7, seed=seed))
    assert (result["steps"], result["n_skipped"]) == (7, 1)
    assert {"reconstruction", "denoising"} <= set(result)
    assert (tmp_path / "run" / "pictures" / "fills.png").stat().st_size > 1000


def test_a_run_of_which_nothing_can_be_read(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="none of the videos"):
        run_in(tmp_path / "run", settings(tmp_path / "broken.mp4"))


def test_latents_of_the_published_model_are_standardised(videos, tmp_path):
    config = settings(videos)
    trained = method()
    steps(trained, 60, 0, 200)
    autoencoder, _, _ = pretrain.folded(config, trained)
    with torch.no_grad():
        latents = autoencoder.encode(torch.cat([batch(8, 10 * i)["video"][:, 0] for i in range(20, 30)])).latents
    assert float(latents.mean().abs()) < 0.5
    assert float(latents.std()) == pytest.approx(1, abs=0.35)


def test_six_steps_are_three_and_kill_and_three(videos, tmp_path, monkeypatch):
    config = settings(videos)
    run_in(tmp_path / "whole", config)
    from tasks.pseudo.method import LatentInpainting as Method

    real = Method.forward

    def interrupted(self, given, rng, progress, phase="main"):
        if progress.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(self, given, rng, progress, phase)

    monkeypatch.setattr(Method, "forward", interrupted)
    with pytest.raises(Preempted):
        run_in(tmp_path / "parts", config)
    monkeypatch.setattr(Method, "forward", real)
    run_in(tmp_path / "parts", config)
    losses = [[r["loss"] for r in read_metrics(tmp_path / name / "metrics.jsonl") if r["kind"] == "train"] for name in ("whole", "parts")]
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]


def test_starting_from_weights(videos, tmp_path):
    folder = tiny_models.folder_of(tmp_path / "m", seed=3)
    built = pretrain.build(settings(videos).model_copy(update={"init": str(folder)}))
    assert (built.unet.conv_in.weight == tiny_models.parts(3)[1].conv_in.weight).all()
    other = settings(videos).model_copy(update={"init": str(folder), "model": tiny_models.config(model={}).model})
    with pytest.raises(UsageError, match="do not fit"):
        pretrain.build(other)


def test_the_plan_says_what_would_be_trained(videos):
    plan = pretrain.plan(settings(videos))
    assert (plan["steps"], plan["autoencoder_steps"], plan["unet_steps"]) == (6, 2, 4)
    assert plan["parameters"] == plan["autoencoder_parameters"] + plan["unet_parameters"]
    with pytest.raises(UsageError, match="--data"):
        pretrain.plan(tiny_models.config())


def test_the_presets_resolve_and_build():
    from vidcli.resolve import Given, resolve

    sizes = {}
    for name in ("pseudo/ldm-inpaint-tiny", "pseudo/ldm-inpaint-256"):
        config = resolve(Given(name)).config
        with torch.device("meta"):
            built = LatentInpainting(config)
        assert built.unet.config.in_channels == 7
        sizes[name] = sum(p.numel() for p in built.parameters())
    assert sizes["pseudo/ldm-inpaint-tiny"] < 2e6 < 5e7 < sizes["pseudo/ldm-inpaint-256"]
    assert 2 ** (len(config.model.autoencoder.channels) - 1) == 4
